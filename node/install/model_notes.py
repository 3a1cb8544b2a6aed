"""What is remembered of models beyond their files: where each came from, and whether the swarm put it here.

    {"tiny": {"source": "source:3fa0...", "is_placed": true, "sha256": "..."}}

One small JSON file of the home. Lost, it costs this: peers that want the same from the same source do not
find it here by that, and copies that the swarm put here count as their owner's, so they stay.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ledger.records import ModelName
from node.home import write_private

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelNote:
    """Of one model."""

    sha256: str
    """Of the weights that this is about: of others it says nothing."""
    source: str = ""
    """Key of the source it was asked for by; empty: none outside of the swarm."""
    is_placed: bool = False
    """The swarm put it here."""


class ModelNotes:
    """Those of one home."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._notes: dict[ModelName, ModelNote] = _read(path)

    def of(self, name: ModelName, sha256: str) -> ModelNote:
        """What is known of `name`, whose weights are `sha256`."""
        note = self._notes.get(name)
        return note if note is not None and note.sha256 == sha256 else ModelNote(sha256)

    def source_of(self, name: ModelName) -> str:
        """Where `name` came from when it was put here; empty: from nowhere that is known."""
        note = self._notes.get(name)
        return note.source if note is not None else ""

    def placed(self) -> Mapping[ModelName, str]:
        """sha256 of each model that the swarm put here."""
        return {name: note.sha256 for name, note in self._notes.items() if note.is_placed}

    def own(self, name: ModelName) -> bool:
        """Remember that its owner wants it, too; returns whether that is new. Blocks.

        Raises:
          NodeError: the file cannot be written.
        """
        note = self._notes.get(name)
        if note is None or not note.is_placed:
            return False
        self.put(name, replace(note, is_placed=False))
        return True

    def put(self, name: ModelName, note: ModelNote) -> None:
        """Remember `note`. Blocks.

        Raises:
          NodeError: the file cannot be written.
        """
        self._notes[name] = note
        self._write()

    def drop(self, name: ModelName) -> None:
        """Remember nothing of `name`. Blocks.

        Raises:
          NodeError: the file cannot be written.
        """
        if self._notes.pop(name, None) is not None:
            self._write()

    def _write(self) -> None:
        notes = {name: asdict(note) for name, note in sorted(self._notes.items())}
        write_private(self._path, json.dumps(notes, indent=1).encode())


def _read(path: Path) -> dict[ModelName, ModelNote]:
    try:
        return {
            ModelName(name): ModelNote(str(note["sha256"]), str(note["source"]), note["is_placed"] is True)
            for name, note in json.loads(path.read_bytes()).items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning("the notes on models are of no use and start anew: path=%s error=%s", path, error)
        return {}
