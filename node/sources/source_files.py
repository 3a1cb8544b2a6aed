"""What a source has for one model: its files, and where each can be had.

Files have the names of a manifest (`node/store/model_files.py`), whatever they are called at the source, so
that the same model from two places is the same model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
    version: str = ""
    """What the source calls its state (`answers.py`); empty: it does not say, or `sha256` says more."""

    @property
    def key(self) -> FileKey:
        """What nodes call it among themselves: by its content, or as long as nobody knows that, by its
        source and the version there. So what two call the same goes together, whoever brought which part."""
        if self.sha256:
            return file_key(self.sha256)
        wanted = f"{self.canonical}\n{self.version}" if self.version else self.canonical
        return source_key(hashlib.sha256(wanted.encode()).hexdigest())

    @property
    def of_any_version(self) -> SourceFile:
        """What is there, as who cannot ask which version it is calls it."""
        return replace(self, version="")


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
