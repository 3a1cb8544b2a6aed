"""A model in several files: `big-00001-of-00003.gguf`, and two more beside it.

llama.cpp is given the first and finds the others by their names, so they have to be called like this and
lie in one folder. Only names are looked at here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_PARTS_MAX = 1024
"""The largest models are split in below 200; a name may say 99999."""

_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PartName:
    """What the name of a part says."""

    stem: str
    """What all parts share."""
    number: int
    """From 1 on."""
    count: int

    def file_name(self, number: int) -> str:
        """Of another part of the same model."""
        return f"{self.stem}-{number:05}-of-{self.count:05}.gguf"


def parse_part_name(file_stem: str) -> PartName | None:
    """What a file's name without its suffix says of a part; None: it is none."""
    match = _NAME.fullmatch(file_stem)
    if match is None:
        return None
    part = PartName(match[1], int(match[2]), int(match[3]))
    return part if 1 <= part.number <= part.count <= _PARTS_MAX else None


def parts_of(path: Path) -> tuple[Path, ...]:
    """The files of the model that the GGUF file at `path` belongs to, whether they are there or not: all
    parts in order, or `path` alone."""
    part = parse_part_name(path.stem) if path.suffix == ".gguf" else None
    if part is None:
        return (path,)
    return tuple(path.with_name(part.file_name(number)) for number in range(1, part.count + 1))
