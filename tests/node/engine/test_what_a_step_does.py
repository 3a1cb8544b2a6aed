"""The step loop over a model that says the prompt again."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from typing import Any

from node.engine.scheduler import Scheduler, SchedulerConfig
from node.engine.step_loop import StepLoop
from node.engine.wire import (
    UNREAD_PIECES_MAX,
    Accepted,
    Cancel,
    Credit,
    EngineParams,
    Finished,
    FromChild,
    Generate,
    GenerateRequest,
    Piece,
    PromptPart,
    Refused,
)

Echo = Callable[..., Any]


class Clock:
    """A step takes as long as is said."""

    def __init__(self, per_reading: float = 0.0) -> None:
        self.now = 0.0
        self.per_reading = per_reading

    def __call__(self) -> float:
        self.now += self.per_reading
        return self.now


def text(*parts: str) -> tuple[PromptPart, ...]:
    return tuple(PromptPart(part, parse_special=True) for part in parts)


def new_loop(model: Any, clock: Clock | None = None, speed: float = 1000.0) -> StepLoop:
    scheduler = Scheduler(SchedulerConfig(slots=4), prefill_speed=speed)
    return StepLoop(model, scheduler, clock or Clock())


def run(loop: StepLoop, steps_max: int = 1000) -> list[FromChild]:
    messages: list[FromChild] = []
    for _ in range(steps_max):
        if not loop.has_work:
            break
        messages += loop.step()
    return messages


def prompt_size(loop: StepLoop, prompt: tuple[PromptPart | int, ...]) -> int:
    [accepted] = loop.handle(Generate(1, GenerateRequest(prompt)))
    assert isinstance(accepted, Accepted)
    return accepted.prompt_tokens


def answer(messages: list[FromChild], sequence_id: int) -> str:
    return "".join(each.text for each in messages if isinstance(each, Piece) and each.id == sequence_id)


def test_an_answer_ends_where_the_model_ends_it(echo_model: Echo) -> None:
    model = echo_model(EngineParams(""))
    loop = new_loop(model)
    [accepted] = loop.handle(Generate(1, GenerateRequest(text("hi"))))
    assert accepted == Accepted(1, hashlib.sha256(b"h\0\0\0i\0\0\0").digest(), 2)
    assert run(loop) == [Piece(1, (104,), "h"), Piece(1, (105,), "i"), Finished(1, "stop", 2, 2, 0, 0, 0)]
    assert model.contexts == {}
    assert model.samplers_open == 0


def test_many_sequences_share_each_step(echo_model: Echo) -> None:
    model = echo_model(EngineParams(""))
    loop = new_loop(model)
    for sequence_id, prompt in enumerate(("one", "three", "five", "seven")):
        loop.handle(Generate(sequence_id, GenerateRequest(text(prompt))))
    messages = run(loop)
    assert [answer(messages, sequence_id) for sequence_id in range(4)] == ["one", "three", "five", "seven"]
    assert len(model.batches) == len("three") + 1


def test_max_tokens_ends_an_answer_by_length(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    loop.handle(Generate(1, GenerateRequest(text("hello"), max_tokens=2)))
    messages = run(loop)
    assert answer(messages, 1) == "he"
    assert messages[-1] == Finished(1, "length", 5, 2, 0, 0, 0)


def test_a_full_context_ends_an_answer_by_length(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("", context_size=8)))
    loop.handle(Generate(1, GenerateRequest(text("hello"), ignore_eos=True)))
    messages = run(loop)
    assert answer(messages, 1) == "hel"
    assert messages[-1] == Finished(1, "length", 5, 3, 0, 0, 0)


def test_what_cannot_fit_is_refused_with_both_numbers(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("", context_size=8)))
    assert loop.handle(Generate(1, GenerateRequest(text("hello"), max_tokens=4))) == [
        Refused(1, "5 tokens of prompt and 4 of answer do not fit the context of 8", is_too_long=True)
    ]
    assert loop.handle(Generate(2, GenerateRequest(text("12345678")))) == [
        Refused(2, "8 tokens of prompt do not fit the context of 8", is_too_long=True)
    ]
    assert not loop.has_work


def test_a_huge_prompt_is_refused_before_it_is_tokenized(echo_model: Echo) -> None:
    model = echo_model(EngineParams("", context_size=8))
    model.tokenize = None
    [refused] = new_loop(model).handle(Generate(1, GenerateRequest(text("x" * 65))))
    assert refused == Refused(1, "65 bytes of prompt cannot fit the context of 8 tokens", is_too_long=True)


def test_a_stop_string_over_several_tokens_ends_the_answer_before_it(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    loop.handle(Generate(1, GenerateRequest(text("one two three"), stop=(" tw", ""))))
    messages = run(loop)
    assert answer(messages, 1) == "one"
    assert messages[-1] == Finished(1, "stop", 13, 6, 0, 0, 0)


def test_text_held_back_comes_with_the_end(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    loop.handle(Generate(1, GenerateRequest(text("one tw"), stop=(" two",))))
    messages = run(loop)
    assert messages[-2:] == [Piece(1, (), " tw"), Finished(1, "stop", 6, 6, 0, 0, 0)]


def test_a_first_token_the_model_wants_is_put_once(echo_model: Echo) -> None:
    model = echo_model(EngineParams(""), adds_bos=True)
    assert prompt_size(new_loop(model), text("hi")) == 3
    assert prompt_size(new_loop(model), text("<bos>hi")) == 3


def test_token_ids_are_taken_as_they_are(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams(""), adds_bos=True))
    assert prompt_size(loop, (104, 105)) == 2


def test_an_unknown_token_id_is_refused(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    assert loop.handle(Generate(1, GenerateRequest((258,)))) == [
        Refused(1, "there is no token 258; this model has 258", is_too_long=False)
    ]


def test_an_empty_prompt_begins_with_the_first_token_if_there_is_one(echo_model: Echo) -> None:
    assert prompt_size(new_loop(echo_model(EngineParams(""))), ()) == 1
    [refused] = new_loop(echo_model(EngineParams(""), bos=None)).handle(Generate(1, GenerateRequest(())))
    assert isinstance(refused, Refused)


def test_what_a_person_wrote_does_not_become_a_special_token(echo_model: Echo) -> None:
    model = echo_model(EngineParams(""))
    prompt = (PromptPart("<bos>", parse_special=True), PromptPart("<end>", parse_special=False))
    assert prompt_size(new_loop(model), prompt) == 1 + len("<end>")


def test_a_cancelled_sequence_is_not_in_the_next_step(echo_model: Echo) -> None:
    model = echo_model(EngineParams(""))
    loop = new_loop(model)
    loop.handle(Generate(1, GenerateRequest(text("hello"))))
    loop.step()
    loop.handle(Cancel(1))
    assert not loop.has_work
    assert model.contexts == {}
    assert model.samplers_open == 0


def test_messages_that_crossed_the_end_are_ignored(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    assert loop.handle(Cancel(1)) == []
    assert loop.handle(Credit(1, 5)) == []


def test_a_reader_that_stops_reading_pauses_its_own_sequence_only(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    loop.handle(Generate(1, GenerateRequest(text("x"), max_tokens=100, ignore_eos=True)))
    loop.handle(Generate(2, GenerateRequest(text("y" * 60), ignore_eos=True, max_tokens=60)))
    messages = run(loop, steps_max=UNREAD_PIECES_MAX)
    loop.handle(Credit(2, UNREAD_PIECES_MAX))
    messages += run(loop)
    assert answer(messages, 1) == "x" * UNREAD_PIECES_MAX
    assert answer(messages, 2) == "y" * 60


def test_progress_is_reported_each_second_while_a_prompt_is_read(echo_model: Echo) -> None:
    clock = Clock(per_reading=0.2)
    loop = new_loop(echo_model(EngineParams("", context_size=10_000)), clock)
    loop.handle(Generate(1, GenerateRequest(text("x" * 5000))))
    spoke = [clock.now]
    messages: list[FromChild] = []
    while not any(isinstance(message, Piece) for message in messages):
        messages = loop.step()
        if messages:
            spoke.append(clock.now)
    assert len(spoke) > 3
    assert all(after - before <= 1.0 for before, after in itertools.pairwise(spoke))


def test_times_tell_waiting_reading_and_decoding_apart(echo_model: Echo) -> None:
    clock = Clock()
    loop = new_loop(echo_model(EngineParams("")), clock)
    loop.handle(Generate(1, GenerateRequest(text("hi"))))
    clock.now, clock.per_reading = 3.0, 1.0
    finished = run(loop)[-1]
    assert isinstance(finished, Finished)
    assert (finished.queue, finished.prefill, finished.decode) == (4.0, 1.0, 4.0)
