"""What a source has for one model: its files, and where each can be had.

Files have the names of a manifest (`node/store/model_files.py`), whatever they are called at the source, so
that the same model from two places is the same model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger.records import ModelName
from node.sources.web_url import WebUrl
from p2p.blobs.manifest import FileKey, file_key, source_key


@dataclass(frozen=True, slots=True)
class Location:
    """Where one file can be had, and what to say for it."""

    url: WebUrl
    token: str = field(default="", repr=False)
    """For this origin alone; empty: none."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file. It is in place (`path`), or else at each of `locations`."""

    name: str
    """In the manifest."""
    canonical: str
    """Where it is, in one form for all and without secrets."""
    locations: tuple[Location, ...] = ()
    """In the order in which they are tried. More than one only where `sha256` says that they have the
    same."""
    path: Path | None = None
    size_bytes: int | None = None
    """None: the source says it when asked for the file."""
    sha256: str = ""
    """Hex; empty: nobody said, so what comes first is taken as it is, with a warning."""

    @property
    def key(self) -> FileKey:
        """What nodes call it among themselves: by its content, or as long as nobody knows that, by its
        source."""
        return (
            file_key(self.sha256)
            if self.sha256
            else source_key(hashlib.sha256(self.canonical.encode()).hexdigest())
        )


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """One model as a source has it."""

    name: ModelName
    """What it is called unless somebody wants it called otherwise."""
    files: tuple[SourceFile, ...]
    """The model's own first, in the order of its parts."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """As `node/models/model_yaml.py` reads them, without names of files."""
    license: str = ""
    warnings: tuple[str, ...] = ()
    """One line each, for a person."""
