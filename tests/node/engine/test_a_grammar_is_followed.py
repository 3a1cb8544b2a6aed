"""Grammars over a vocabulary of bytes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from node.engine.constraint import Grammars, GrammarState
from node.engine.errors import PromptRefused
from node.engine.sampling import Scores

END = 256


LONGER = [b"a" * size for size in range(2, 33)]
"""Tokens besides the bytes and the end: a mask looks through each to its last byte."""


def grammars() -> Grammars:
    pieces = [bytes([byte]) for byte in range(256)] + [b"<end>", *LONGER]
    return Grammars(lambda: pieces, {END}, [END], lambda text: list(text.encode()))


def scores() -> Scores:
    return np.zeros(257 + len(LONGER), np.float32)


def ambiguous(ways: int) -> str:
    """A grammar that reads each "a" in so many ways, each of which leads to all others."""
    rules = [f'x{each}: "a" | x{(each + 1) % ways}' for each in range(ways)]
    return "\n".join(
        ["start: s", "s: " + " | ".join(f"x{each} s" for each in range(ways)) + ' | "b"', *rules]
    )


def allowed(state: GrammarState) -> list[int]:
    restricted = scores()
    state.restrict(restricted)
    return [int(token) for token in np.flatnonzero(np.isfinite(restricted[: END + 1]))]


def test_only_what_a_grammar_allows_may_come() -> None:
    state = grammars().compile('start: "ab" | "cd"')
    assert allowed(state) == list(b"ac")
    assert state.accept(ord("a"))
    assert allowed(state) == list(b"b")
    assert state.accept(ord("b"))
    assert state.is_over


def test_a_copy_goes_on_by_itself() -> None:
    first = grammars().compile('start: "ab" | "cd"')
    second = first.copy()
    assert first.accept(ord("a"))
    assert second.accept(ord("c"))
    assert (allowed(first), allowed(second)) == (list(b"b"), list(b"d"))


def test_what_is_no_grammar_is_refused_with_the_reason() -> None:
    with pytest.raises(PromptRefused, match="the grammar cannot be used: "):
        grammars().compile("start: (")


def test_a_token_for_which_a_grammar_would_hold_everybody_up_is_refused() -> None:
    followed, refused = grammars().compile(ambiguous(40)), grammars().compile(ambiguous(60))
    assert followed.restrict(scores())
    with pytest.raises(PromptRefused, match="Too many items"):
        refused.restrict(scores())


def test_an_object_of_hundreds_of_optional_members_is_followed() -> None:
    members = {f"member {number}": {"type": "string"} for number in range(400)}
    schema = {"type": "object", "properties": members, "additionalProperties": False}
    state = grammars().compile(f"start: %json {json.dumps(schema)}")
    for byte in b'{"member 3": "a", "member 399": "b"}':
        assert byte in allowed(state)
        assert state.accept(byte)
