"""A request names a model, or one exact file of it; text of any other form is nobody's name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.model_reference import ModelReference
from ledger.records import ModelName

TINY = ModelName("tiny")
OURS, THEIRS = "a" * 64, "b" * 64


@pytest.mark.parametrize("sha256", ["", OURS])
def test_a_name_alone_means_any_file_of_that_name(sha256: str) -> None:
    assert ModelReference.parse("tiny") == ModelReference(TINY)
    assert ModelReference.parse("tiny").is_met_by(TINY, sha256)
    assert not ModelReference.parse("tiny").is_met_by(ModelName("tin"), sha256)


def test_a_hash_means_that_file_alone() -> None:
    reference = ModelReference.parse(f"tiny@sha256:{OURS}")
    assert reference == ModelReference(TINY, OURS)
    assert reference.is_met_by(TINY, OURS)
    assert not reference.is_met_by(TINY, THEIRS)
    assert not reference.is_met_by(ModelName("other"), OURS)


def test_a_file_whose_hash_nobody_knows_yet_is_not_the_one() -> None:
    assert not ModelReference.parse(f"tiny@sha256:{OURS}").is_met_by(TINY, "")


@pytest.mark.parametrize(
    "text",
    [
        "tiny@",
        "tiny@sha256:",
        f"tiny@sha256:{OURS[:-1]}",
        f"tiny@sha256:{OURS}a",
        f"tiny@sha256:{OURS}\n",
        f"tiny@sha256:{OURS.upper()}",
        f"tiny@sha512:{OURS}",
        f"@sha256:{OURS}",
        f"tiny@v2@sha256:{OURS}",
    ],
)
def test_what_only_looks_like_a_hash_names_no_model(text: str) -> None:
    assert ModelReference.parse(text) == ModelReference(ModelName(text))
    assert not ModelReference.parse(text).is_met_by(TINY, OURS)


@given(st.text(), st.text(alphabet="0123456789abcdef"))
def test_any_text_refers_to_something(before: str, after: str) -> None:
    reference = ModelReference.parse(f"{before}@sha256:{after}")
    assert reference.sha256 in ("", after)
