"""Grammars over a vocabulary of bytes."""

from __future__ import annotations

import numpy as np
import pytest

from node.engine.constraint import Grammars, GrammarState
from node.engine.errors import PromptRefused

END = 256


def grammars() -> Grammars:
    pieces = [bytes([byte]) for byte in range(256)] + [b"<end>"]
    return Grammars(lambda: pieces, {END}, [END], lambda text: list(text.encode()))


def allowed(state: GrammarState) -> list[int]:
    scores = np.zeros(257, np.float32)
    state.restrict(scores)
    return [int(token) for token in np.flatnonzero(np.isfinite(scores))]


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
