"""Which files at a source are the parts of one model, by their names (`split_files.py`). Pure.

What a manifest calls them is `node/store/model_files.py`.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from node.models.split_files import parse_part_name
from node.sources.errors import UnsuitableModel


def parts_among(names: Container[str], model: str) -> Sequence[str]:
    """Those of `names` that make up the model which is called `model`, or one of whose parts is: in order.

    Raises:
      UnsuitableModel: one of its parts is not there.
    """
    part = parse_part_name(model)
    if part is None:
        return [model]
    for number, name in enumerate(part.siblings, 1):
        if name not in names:
            raise UnsuitableModel(f"{part.stem} has {part.count} parts, and part {number} is not there")
    return part.siblings
