"""How often a reader hears of a choice: few times a second, and never too late."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from federation.backend import TokenLogprob
from node.engine.pacing import Pacing
from node.engine.scheduler import Scheduler, SchedulerConfig
from node.engine.step_loop import StepLoop
from node.engine.wire import (
    UNREAD_TOKENS_MAX,
    Cancel,
    Credit,
    EngineParams,
    Finished,
    FromChild,
    Generate,
    GenerateRequest,
    Piece,
)

STEP = 0.01
INTERVAL = 0.025


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def piece(token: int, **more: Any) -> Piece:
    return Piece(1, 0, (token,), chr(token), **more)


def new_loop(echo_model: Callable[..., Any]) -> StepLoop:
    """A step takes `STEP` seconds, and the first token of a prompt comes with its first step."""
    clock, model = Clock(), echo_model(EngineParams("", context_size=1000))
    decode = model.decode

    def decode_in_time(spans: Sequence[Any]) -> Any:
        clock.now += STEP
        return decode(spans)

    model.decode = decode_in_time
    scheduler = Scheduler(SchedulerConfig(slots=4), prefill_speed=10_000.0)
    return StepLoop(model, scheduler, clock, lambda: 1, interval=INTERVAL)


def tokens(messages: Sequence[FromChild]) -> list[int]:
    """How many came with each piece."""
    return [len(each.token_ids) for each in messages if isinstance(each, Piece)]


def test_the_first_token_comes_at_once_and_the_next_ones_together() -> None:
    pacing = Pacing(INTERVAL)
    said = []
    for number in range(7):
        pacing.hold(piece(97 + number))
        said.append(pacing.due(number * STEP, lambda _: False))
    assert [[each.text for each in pieces] for pieces in said] == [["a"], [], [], ["bcd"], [], [], ["efg"]]


def test_nothing_is_lost_between_pieces() -> None:
    pacing = Pacing(INTERVAL)
    likely = [TokenLogprob(bytes([token]), -1.0) for token in (97, 98)]
    pacing.hold(piece(97, logprobs=(likely[0],)))
    pacing.hold(piece(98, logprobs=(likely[1],), finish_reason="length"))
    whole = Piece(1, 0, (97, 98), "ab", tuple(likely), finish_reason="length")
    assert pacing.due(0.0, lambda _: False) == [whole]
    assert pacing.due(9.0, lambda _: False) == []


def test_the_end_of_a_choice_waits_for_nothing() -> None:
    pacing = Pacing(INTERVAL)
    pacing.hold(piece(97))
    assert pacing.due(0.0, lambda _: False)
    pacing.hold(piece(98, finish_reason="stop"))
    assert [each.text for each in pacing.due(0.0, lambda _: False)] == ["b"]


def test_a_choice_that_its_reader_holds_up_is_told_of_at_once() -> None:
    pacing = Pacing(INTERVAL)
    pacing.hold(piece(97))
    assert pacing.due(0.0, lambda _: False)
    pacing.hold(piece(98))
    assert [each.text for each in pacing.due(0.0, lambda each: each == (1, 0))] == ["b"]


def test_steps_are_told_of_a_few_at_a_time(echo_model: Callable[..., Any]) -> None:
    loop = new_loop(echo_model)
    loop.handle(Generate(1, GenerateRequest((7,), max_tokens=8, ignore_eos=True)))
    messages = [message for _ in range(8) for message in loop.step()]
    assert tokens(messages) == [1, 3, 3, 1]
    assert isinstance(messages[-1], Finished)


def test_a_reader_that_was_waited_for_gets_all_there_is(echo_model: Callable[..., Any]) -> None:
    loop = new_loop(echo_model)
    loop.handle(Generate(1, GenerateRequest((7,), max_tokens=100, ignore_eos=True)))
    before = []
    while loop.has_work:
        before += loop.step()
    assert sum(tokens(before)) == UNREAD_TOKENS_MAX, "or it would wait for credit that nobody can give"
    loop.handle(Credit(1, 0, 1))
    assert tokens(loop.step()) == [1]


def test_what_was_held_back_of_a_cancelled_request_is_never_said(echo_model: Callable[..., Any]) -> None:
    loop = new_loop(echo_model)
    for request_id in (1, 2):
        loop.handle(Generate(request_id, GenerateRequest((7,), max_tokens=9, ignore_eos=True, choices=2)))
    for _ in range(3):
        loop.step()
    loop.handle(Cancel(1))
    later = [message for _ in range(9) for message in loop.step()]
    assert {message.id for message in later if isinstance(message, Piece | Finished)} == {2}
