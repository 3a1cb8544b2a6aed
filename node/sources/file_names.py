"""Files at a source that are the parts of one model, by their names. Pure.

What a manifest calls them is `node/store/model_files.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from node.sources.errors import UnsuitableModel
from p2p.blobs.manifest import FILES_MAX

_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.gguf)", re.IGNORECASE)
"""As llama.cpp's `gguf-split` writes it and its loader expects it."""


@dataclass(frozen=True, slots=True)
class PartName:
    """The name of one part of a model: `base-00002-of-00003.gguf`."""

    base: str
    """With its suffix, as if the model was in one file."""
    index: int
    """From 1."""
    count: int


def part_name(name: str) -> PartName | None:
    """What `name` (a path or a file's name) says of a part, if it says that it is one."""
    match = _PART.fullmatch(name)
    if match is None:
        return None
    part = PartName(match[1] + match[4], int(match[2]), int(match[3]))
    return part if 1 <= part.index <= part.count else None


def parts_of(model: str, names: Iterable[str]) -> Sequence[str]:
    """Those of `names` that make up the model which is called `model`, or whose first part is: in order.

    Raises:
      UnsuitableModel: one of its parts is missing, or it has more than a manifest may name.
    """
    part = part_name(model)
    if part is None:
        return [model]
    if part.count > FILES_MAX - 2:
        raise UnsuitableModel(f"{model} is one of {part.count} parts; a model may have {FILES_MAX - 2}")
    found = {
        other.index: name
        for name in names
        if (other := part_name(name)) is not None and (other.base, other.count) == (part.base, part.count)
    }
    missing = [index for index in range(1, part.count + 1) if index not in found]
    if missing:
        raise UnsuitableModel(f"{part.base} has {part.count} parts, and part {missing[0]} is not there")
    return [found[index] for index in sorted(found)]
