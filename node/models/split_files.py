"""A model in several files: `big-00001-of-00003.gguf`, and two more beside it.

llama.cpp is given the first and finds the others by their names, so on a disk they have to be called exactly
like this and lie in one folder. Only names are looked at here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_SUFFIX = ".gguf"
_PARTS_MAX = 1000
"""The largest models are split in below 200; a name may say 99999, and a manifest has room for 1,024 files, a
projector and settings among them."""

_NAME = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})(\.(?i:gguf))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PartName:
    """What the name of a part says."""

    stem: str
    """What all parts share, with the path before it."""
    number: int
    """From 1 on."""
    count: int
    suffix: str = _SUFFIX
    """As it is written; empty: it has none."""

    @property
    def siblings(self) -> tuple[str, ...]:
        """All parts of the same model, this one among them, in order."""
        return tuple(
            f"{self.stem}-{number:05}-of-{self.count:05}{self.suffix}" for number in range(1, self.count + 1)
        )


def parse_part_name(name: str) -> PartName | None:
    """What the name of a file, with or without its suffix and a path before it, says of a part; None: it is
    none."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    part = PartName(match[1], int(match[2]), int(match[3]), match[4] or "")
    return part if 1 <= part.number <= part.count <= _PARTS_MAX else None


def parts_of(path: Path) -> tuple[Path, ...]:
    """The files of the model that the GGUF file at `path` belongs to, whether they are there or not: all
    parts in order, or `path` alone."""
    part = parse_part_name(path.name)
    if part is None or part.suffix != _SUFFIX:
        return (path,)
    return tuple(map(path.with_name, part.siblings))
