"""A name from a stranger becomes a path: what may be one, and what never is."""

from __future__ import annotations

import pytest

from p2p.blobs.errors import BadFileName
from p2p.blobs.file_name import SIZE_MAX, check_file_name, folded


@pytest.mark.parametrize(
    "name",
    [
        "model.gguf",
        "model-00001-of-00003.gguf",
        "mmproj.gguf",
        "Küche 7B (Q4_K_M).gguf",
        "模型.gguf",
        "console.gguf",
        "COM10",
        "a" * SIZE_MAX,
    ],
)
def test_what_people_call_files_is_a_name(name: str) -> None:
    assert check_file_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "...", ".hidden", " model", "model ", "model."),
        *("../model.gguf", "/etc/passwd", "a/b", "a\\b", "C:model", "model.gguf:stream", "~/x"),
        *("CON", "con", "nul.gguf", "NUL .gguf", "Com1.model.gguf", "LPT9", "com\u00b9.gguf", "CONIN$"),
        *("a\0b", "a\nb", "a\x7fb", "a\x85b", "model\u202eeldom", "a\ud800b", "a\u200bb"),
        *("a*b", "a?b", 'a"b', "a<b", "a|b"),
        *("a" * (SIZE_MAX + 1), "ü" * (SIZE_MAX // 2 + 1)),
    ],
)
def test_what_leaves_its_folder_or_is_no_file_somewhere_is_no_name(name: str) -> None:
    with pytest.raises(BadFileName):
        check_file_name(name)


@pytest.mark.parametrize(
    ("one", "other"), [("Model.gguf", "model.GGUF"), ("k\u00fc.gguf", "ku\u0308.gguf"), ("ÅB", "A\u030ab")]
)
def test_names_that_are_one_file_somewhere_are_told(one: str, other: str) -> None:
    assert folded(one) == folded(other)


def test_other_names_stay_apart() -> None:
    assert folded("model-1.gguf") != folded("model-2.gguf")
