"""What a generation takes from its engine, and what it does not."""

from __future__ import annotations

import pytest

from node.engine.generation import Generation
from node.engine.wire import UNREAD_TOKENS_MAX, Finished, Piece
from p2p.errors import BadFrame

PIECE = Piece(1, 0, (7,), "x")
FINISHED = Finished(1, ("stop",), 1, 1, 0, 0.0, 0.0, 0.0)


def test_all_that_was_granted_and_the_end_find_room() -> None:
    generation = Generation(1, 1, lambda choice, pieces: None)
    for _ in range(UNREAD_TOKENS_MAX):
        generation.on_message(PIECE)
    generation.on_message(Piece(1, 0, (), "held back"))
    generation.on_message(FINISHED)
    assert generation.has_ended


def test_an_engine_that_says_more_than_it_was_granted_breaks_the_protocol() -> None:
    generation = Generation(1, 1, lambda choice, pieces: None)

    def flood() -> None:
        for _ in range(2 * UNREAD_TOKENS_MAX):
            generation.on_message(PIECE)

    with pytest.raises(BadFrame, match="Piece"):
        flood()


def test_an_engine_that_goes_on_after_the_end_breaks_the_protocol() -> None:
    generation = Generation(1, 1, lambda choice, pieces: None)
    generation.on_message(FINISHED)
    with pytest.raises(BadFrame, match="Piece"):
        generation.on_message(PIECE)
