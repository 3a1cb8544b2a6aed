"""What is remembered of models beyond their files: where each came from, and whether the swarm put it here.

    {"tiny": {"source": "source:3fa0...", "is_placed": true, "sha256": "..."}}

One small JSON file of the home. Lost, or not written because the disk is full, it costs this: peers that want
the same from the same source do not find it here by that, and copies that the swarm put here count as their
owner's, so they stay.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import trio

from ledger.records import ModelName
from node.errors import NodeError
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
        self._notes: Mapping[ModelName, ModelNote] = _read(path)
        self._writing = trio.Lock()

    def of(self, name: ModelName, sha256: str) -> ModelNote:
        """What is known of `name`, whose weights are `sha256`; empty: they are not hashed yet, and taken for
        those that the note is about."""
        note = self._notes.get(name)
        return note if note is not None and sha256 in ("", note.sha256) else ModelNote(sha256)

    async def put(self, name: ModelName, note: ModelNote) -> None:
        """Remember `note`. Cancelled: it is remembered until the next start."""
        self._notes = {**self._notes, name: note}
        await self._write()

    async def drop(self, name: ModelName) -> None:
        """Remember nothing of `name`. Cancelled: until the next start."""
        if name in self._notes:
            self._notes = {other: note for other, note in self._notes.items() if other != name}
            await self._write()

    async def _write(self) -> None:
        async with self._writing:
            notes = {name: asdict(note) for name, note in sorted(self._notes.items())}
            data = json.dumps(notes, indent=1).encode()
            try:
                await trio.to_thread.run_sync(write_private, self._path, data)
            except NodeError as error:
                logger.warning("what is known of models is not kept for the next start: %s", error)


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
