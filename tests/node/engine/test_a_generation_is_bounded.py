"""What a generation takes from its engine, and what it does not."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from federation.errors import DeadlineExceeded
from node.engine.generation import Generation
from node.engine.wire import UNREAD_TOKENS_MAX, Finished, Piece
from p2p.errors import BadFrame
from tests.mock_time import run

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


def test_one_that_is_given_up_ends_with_the_reason_whatever_its_engine_says() -> None:
    async def main() -> None:
        generation = Generation(1, 1, lambda choice, pieces: None)
        generation.on_message(PIECE)
        generation.give_up(DeadlineExceeded("over"))
        generation.on_message(PIECE)
        with pytest.raises(DeadlineExceeded, match="over"):
            await anext(generation.events)
        assert not generation.has_ended, "its engine has to be told"

    run(main)


def test_who_waits_for_one_that_is_given_up_waits_no_longer() -> None:
    async def main() -> None:
        generation = Generation(1, 1, lambda choice, pieces: None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_read_until_its_time_is_over, generation)
            await trio.testing.wait_all_tasks_blocked()
            generation.give_up(DeadlineExceeded("over"))

    run(main)


async def _read_until_its_time_is_over(generation: Generation) -> None:
    with pytest.raises(DeadlineExceeded):
        await anext(generation.events)
