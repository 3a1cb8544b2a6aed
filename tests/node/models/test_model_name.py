"""A model's name fits wherever it goes: a ledger key, a probe, a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.records import ModelName, ModelRecord
from node.models.definition import define_given
from node.models.errors import BadModelName
from node.models.model_name import MODEL_NAME_SIZE_MAX, name_of_file, parse_model_name
from tests.ledger.people import author, open_ledger

LATIN_1 = "caf\udce9"
"""How Python spells a file's name that is not UTF-8."""


@pytest.mark.parametrize("text", ["tiny", "org/Model 7B (new)", "x" * 128, "ä" * 64, "模型"])
def test_a_name_may_be_what_people_type(text: str) -> None:
    assert parse_model_name(text) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" tiny", "space at its ends"),
        ("tiny@sha256:00", "'@'"),
        ("ti\nny", "control character"),
        (LATIN_1, "control character"),
        ("x" * 129, "129 bytes"),
        ("ä" * 65, "130 bytes"),
    ],
)
def test_a_name_that_cannot_be_is_refused_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(BadModelName, match=reason) as refused:
        parse_model_name(text)
    assert str(refused.value).isprintable()


@given(st.text(max_size=MODEL_NAME_SIZE_MAX + 8))
def test_every_name_fits_into_the_ledger(text: str) -> None:
    try:
        name = parse_model_name(text)
    except BadModelName:
        return
    ledger = open_ledger(author(1))
    ledger.put_record(ModelRecord(name, "loaded"))
    assert [record.name for record in ledger.model_records(ledger.me)] == [name]


@pytest.mark.parametrize("path", [f"/models/{LATIN_1}.gguf", f"/{LATIN_1}/tiny.gguf"])
def test_a_file_nobody_could_be_told_of_has_no_name(path: str) -> None:
    with pytest.raises(BadModelName, match="not text in UTF-8") as refused:
        define_given(path, memory_bytes=2**30)
    assert str(refused.value).isprintable()


def test_a_file_is_called_by_its_stem() -> None:
    assert name_of_file(Path("/models/tiny.q4.gguf")) == ModelName("tiny.q4")
