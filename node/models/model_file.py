"""A model's files before it is loaded: are they there, are they GGUF, can they fit.

Looks at the 24 bytes every GGUF file starts with (little-endian):

    "GGUF"  version u32  tensor_count u64  metadata_count u64

An engine reads the rest and finds what is wrong there; what is found here costs no
process and says plainly what to do.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from node.models.errors import (
    ModelFileMissing,
    ModelFileTruncated,
    ModelFileUnreadable,
    ModelTooLarge,
    NotGguf,
)

_HEADER = struct.Struct("<4sIQQ")
_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
"""What llama.cpp reads; version 1 left it in 2023."""

_TENSOR_INFO_SIZE_MIN = 32
"""Of one tensor's entry: name length 8, name 0, dimensions 4 + 8, type 4, offset 8 bytes."""

_GIB = 2**30


def inspect_model_files(paths: Sequence[Path], *, memory_bytes: int) -> int:
    """The size in bytes of the model in `paths`, which a machine with `memory_bytes` of memory may load.

    Raises:
      ModelFileMissing, ModelFileUnreadable, NotGguf, ModelFileTruncated, ModelTooLarge: as their names say.
    """
    missing = [number for number, path in enumerate(paths, 1) if not path.exists()]
    if len(paths) > 1 and missing:
        raise ModelFileMissing(
            f"part {missing[0]} of {len(paths)} is missing: there is no file {paths[missing[0] - 1]}"
        )
    size_bytes = sum(_inspect(path) for path in paths)
    require_memory(str(paths[0]), size_bytes, memory_bytes=memory_bytes)
    return size_bytes


def require_memory(what: str, size_bytes: int, *, memory_bytes: int) -> None:
    """See that a machine with `memory_bytes` of memory may load `what`, a model of `size_bytes`.

    Raises:
      ModelTooLarge: its weights alone are more.
    """
    if size_bytes > memory_bytes:
        raise ModelTooLarge(
            f"{what} needs more than {size_bytes / _GIB:.1f} GiB of memory;"
            f" this machine has {memory_bytes / _GIB:.1f} GiB"
        )


def _inspect(path: Path) -> int:
    """Its size in bytes."""
    try:
        if not path.is_file():
            if path.is_dir():
                raise ModelFileMissing(
                    f"{path} is a folder: name a file in it, or start with --models-from {path}"
                )
            raise ModelFileMissing(f"there is no file {path}")
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
    except OSError as error:
        raise ModelFileUnreadable(f"{path} cannot be read: {error.strerror}") from error
    _require_gguf(path, header, size_bytes)
    return size_bytes


def _require_gguf(path: Path, header: bytes, size_bytes: int) -> None:
    if not header:
        raise ModelFileTruncated(f"{path} is empty")
    if not header.startswith(_MAGIC[: len(header)]):
        raise NotGguf(f"{path} is not a GGUF file: it starts with {header[:4]!r}")
    if len(header) < _HEADER.size:
        raise ModelFileTruncated(f"{path} is cut off after {len(header)} bytes")
    _, version, tensor_count, _ = _HEADER.unpack(header)
    if version not in _VERSIONS:
        raise NotGguf(f"{path} is GGUF of a version that llama.cpp does not read ({version})")
    if size_bytes < _HEADER.size + tensor_count * _TENSOR_INFO_SIZE_MIN:
        raise ModelFileTruncated(
            f"{path} is cut off: its {tensor_count} tensors do not fit {size_bytes} bytes"
        )
