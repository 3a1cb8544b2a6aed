"""What a model may be called.

The name is what people type into clients, so it may be anything printable, with
two exceptions: `@` introduces a hash (`name@sha256:...`), and space at the ends
would never be seen.
"""

from __future__ import annotations

from pathlib import Path

from ledger.records import ModelName
from node.models.errors import BadModelName
from node.models.split_files import parse_part_name

MODEL_NAME_SIZE_MAX = 128
"""Bytes in UTF-8: what a probe carries, and a ledger's key has room for. The longest on Hugging Face
are below 100."""


def parse_model_name(text: str) -> ModelName:
    """`text` as a model's name.

    Raises:
      BadModelName: it is empty, too long, or holds a character no name may have.
    """
    if not text or text != text.strip():
        raise BadModelName(f"{text!r} cannot be a model's name: it is empty or has space at its ends")
    # What is not Unicode is not printable either, so that counting bytes is safe after this.
    if "@" in text or not text.isprintable():
        raise BadModelName(f"{text!r} cannot be a model's name: it holds '@' or a control character")
    if (size_bytes := len(text.encode())) > MODEL_NAME_SIZE_MAX:
        raise BadModelName(
            f"{text!r} cannot be a model's name: it takes {size_bytes} bytes in UTF-8, "
            f"{MODEL_NAME_SIZE_MAX} are allowed"
        )
    return ModelName(text)


def name_of_file(path: Path) -> ModelName:
    """The name a file has when its settings give none: its stem, without what says which part it is.

    Raises:
      BadModelName: no model can be called like this file.
    """
    part = parse_part_name(path.stem)
    return parse_model_name(part.stem if part else path.stem)
