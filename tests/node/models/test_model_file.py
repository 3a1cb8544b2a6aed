from __future__ import annotations

import struct
from pathlib import Path

import pytest

from node.models.errors import (
    BadModelFile,
    ModelFileMissing,
    ModelFileTruncated,
    ModelTooLarge,
    NotGguf,
)
from node.models.model_file import inspect_model_files

GIB = 2**30


def header(*, magic: bytes = b"GGUF", version: int = 3, tensors: int = 1) -> bytes:
    return struct.pack("<4sIQQ", magic, version, tensors, 0)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_file_that_starts_like_a_model_is_one(tmp_path: Path) -> None:
    path = written(tmp_path / "m.gguf", header() + bytes(100))
    assert inspect_model_files([path], memory_bytes=GIB) == 124


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (b"", ModelFileTruncated, "is empty"),
        (b"GG", ModelFileTruncated, "cut off after 2 bytes"),
        (header()[:-1], ModelFileTruncated, "cut off after 23 bytes"),
        (header(tensors=1000) + bytes(100), ModelFileTruncated, "1000 tensors"),
        (header(magic=b"GGML") + bytes(100), NotGguf, "not a GGUF file"),
        (b"PK\x03\x04", NotGguf, "not a GGUF file"),
        (header(version=1) + bytes(100), NotGguf, "version"),
        (header(version=0x03000000) + bytes(100), NotGguf, "version"),
    ],
)
def test_what_is_no_model_says_why(
    tmp_path: Path, content: bytes, error: type[BadModelFile], says: str
) -> None:
    path = written(tmp_path / "m.gguf", content)
    with pytest.raises(error, match=says) as caught:
        inspect_model_files([path], memory_bytes=GIB)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelFileMissing, match="there is no file"):
        inspect_model_files([tmp_path / "none.gguf"], memory_bytes=GIB)
    with pytest.raises(ModelFileMissing, match="is a folder: name a file in it, or start with --models-from"):
        inspect_model_files([tmp_path], memory_bytes=GIB)


def test_a_file_larger_than_memory_names_both_sizes(tmp_path: Path) -> None:
    path = written(tmp_path / "m.gguf", header() + bytes(100))
    with pytest.raises(ModelTooLarge, match=r"more than 0\.0 GiB .* has 0\.0 GiB"):
        inspect_model_files([path], memory_bytes=123)
