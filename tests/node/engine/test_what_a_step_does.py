"""The step loop over a model that says the prompt again."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from federation.backend import FinishReason, Resume, Sampling
from node.engine.errors import PromptRefused
from node.engine.sampling import Scores
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
    return StepLoop(model, scheduler, clock or Clock(), new_seed=lambda: 1)


def run(loop: StepLoop, steps_max: int = 1000) -> list[FromChild]:
    messages: list[FromChild] = []
    for _ in range(steps_max):
        if not loop.has_work:
            break
        messages += loop.step()
    return messages


def finished(prompt: int, answer: int, *reasons: FinishReason, cached: int = 0) -> Finished:
    """The end of request 1, on a clock that stands still."""
    return Finished(1, reasons or ("stop",), prompt, answer, cached, 0, 0, 0)


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
    assert run(loop) == [
        Piece(1, 0, (104,), "h"),
        Piece(1, 0, (105,), "i"),
        finished(2, 2),
    ]


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
    assert messages[-1] == finished(5, 2, "length")


def test_a_full_context_ends_an_answer_by_length(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("", context_size=8)))
    loop.handle(Generate(1, GenerateRequest(text("hello"), ignore_eos=True)))
    messages = run(loop)
    assert answer(messages, 1) == "hel"
    assert messages[-1] == finished(5, 3, "length")


def test_what_cannot_fit_is_refused_with_both_numbers(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("", context_size=8)))
    assert loop.handle(Generate(1, GenerateRequest(text("hello"), max_tokens=4))) == [
        Refused(1, "5 tokens of prompt and 4 of answer do not fit the context of 8", "too_long", "max_tokens")
    ]
    assert loop.handle(Generate(2, GenerateRequest(text("12345678")))) == [
        Refused(2, "8 tokens of prompt do not fit the context of 8", "too_long")
    ]
    assert not loop.has_work


def test_a_huge_prompt_is_refused_before_it_is_tokenized(echo_model: Echo) -> None:
    model = echo_model(EngineParams("", context_size=8))
    model.tokenize = None
    [refused] = new_loop(model).handle(Generate(1, GenerateRequest(text("x" * 65))))
    assert refused == Refused(1, "65 bytes of prompt cannot fit the context of 8 tokens", "too_long")


def test_a_stop_string_over_several_tokens_ends_the_answer_before_it(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    loop.handle(Generate(1, GenerateRequest(text("one two three"), stop=(" tw", ""))))
    messages = run(loop)
    assert answer(messages, 1) == "one"
    assert messages[-1] == finished(13, 6)


def test_text_held_back_comes_with_the_end(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    loop.handle(Generate(1, GenerateRequest(text("one tw"), stop=(" two",))))
    messages = run(loop)
    assert messages[-2:] == [Piece(1, 0, (), " tw"), finished(6, 6)]


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
        Refused(1, "there is no token 258; this model has 258", param="prompt")
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


def test_messages_that_crossed_the_end_are_ignored(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    assert loop.handle(Cancel(1)) == []
    assert loop.handle(Credit(1, 0, 5)) == []


def test_a_reader_that_stops_reading_pauses_its_own_sequence_only(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    loop.handle(Generate(1, GenerateRequest(text("x"), max_tokens=100, ignore_eos=True)))
    loop.handle(Generate(2, GenerateRequest(text("y" * 60), ignore_eos=True, max_tokens=60)))
    messages = run(loop, steps_max=UNREAD_PIECES_MAX)
    loop.handle(Credit(2, 0, UNREAD_PIECES_MAX))
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
    end = run(loop)[-1]
    assert isinstance(end, Finished)
    assert end.queue == 4.0
    assert end.prefill > 0
    assert end.decode > end.prefill


def test_choices_of_one_prompt_read_it_once_and_end_together(echo_model: Echo) -> None:
    model = echo_model(EngineParams(""))
    loop = new_loop(model)
    loop.handle(Generate(1, GenerateRequest(text("hey"), choices=3)))
    messages = run(loop)
    for number in range(3):
        pieces = [each for each in messages if isinstance(each, Piece) and each.choice == number]
        assert "".join(piece.text for piece in pieces) == "hey"
    assert messages[-1] == finished(3, 9, "stop", "stop", "stop")
    assert [len(batch) for batch in model.batches] == [1, 3, 3, 3]


def test_a_prompt_that_was_read_before_is_not_read_again(echo_model: Echo) -> None:
    model = echo_model(EngineParams(""))
    loop = new_loop(model)
    prompt = "a prompt that is worth keeping"
    loop.handle(Generate(1, GenerateRequest(text(prompt))))
    assert run(loop)[-1] == finished(len(prompt), len(prompt))
    loop.handle(Generate(1, GenerateRequest(text(prompt + "!"))))
    messages = run(loop)
    assert answer(messages, 1) == prompt + "!"
    assert messages[-1] == finished(len(prompt) + 1, len(prompt) + 1, cached=len(prompt))


def test_a_prompt_is_shared_with_one_who_is_still_at_work_on_it(echo_model: Echo) -> None:
    model = echo_model(EngineParams(""))
    loop = new_loop(model)
    prompt = "a prompt that is long enough to be worth keeping"
    loop.handle(Generate(2, GenerateRequest(text(prompt + " A"))))
    loop.step()
    loop.step()
    loop.handle(Generate(1, GenerateRequest(text(prompt + " B"))))
    messages = run(loop, steps_max=20)
    loop.handle(Credit(1, 0, 99))
    loop.handle(Credit(2, 0, 99))
    messages += run(loop)
    assert answer(messages, 1) == prompt + " B"
    ends = {each.id: each.cached_tokens for each in messages if isinstance(each, Finished)}
    assert ends == {1: len(prompt) + 1, 2: 0}


def test_who_brings_a_seed_gets_nothing_that_was_read_in_other_chunks(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    request = GenerateRequest(text("a prompt that is long enough"), sampling=Sampling(seed=7))
    for _ in range(2):
        loop.handle(Generate(1, request))
        assert run(loop)[-1] == finished(28, 28)


def test_an_echoed_answer_begins_with_its_prompt(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    for prompt in (text("one ", "two"), tuple(b"one two")):
        [_, echo] = loop.handle(Generate(1, GenerateRequest(prompt, is_echoed=True, max_tokens=1)))
        assert echo == Piece(1, 0, (), "one two")
        run(loop)


def test_a_suffix_is_put_where_the_model_learned_to_find_it(echo_model: Echo) -> None:
    model = echo_model(EngineParams(""))
    request = GenerateRequest(text("ab"), suffix="cd")
    [refused] = new_loop(model).handle(Generate(1, request))
    assert refused == Refused(1, "this model was not trained to fill in text before a suffix", param="suffix")
    model.infill = (1, 2, 3)
    loop = new_loop(model)
    loop.handle(Generate(1, request))
    loop.step()
    assert list(model.batches[0][0].tokens) == [1, *b"ab", 2, *b"cd", 3]


def test_a_grammar_decides_what_may_come_and_when_it_is_over(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    loop.handle(Generate(1, GenerateRequest(text("anything"), grammar="{}")))
    messages = run(loop)
    assert answer(messages, 1) == "{}"
    assert messages[-1] == finished(8, 2)


def test_a_grammar_that_fails_on_the_way_ends_its_own_request_alone(echo_model: Echo) -> None:
    model = echo_model(EngineParams(""))

    class Failing:
        is_over = False

        def restrict(self, scores: Scores) -> bool:
            raise PromptRefused("too complex")

        def accept(self, token: int) -> bool:
            return True

    model.compile = lambda grammar: Failing()
    loop = new_loop(model)
    loop.handle(Generate(1, GenerateRequest(text("one"), grammar="x", choices=2)))
    loop.handle(Generate(2, GenerateRequest(text("two"))))
    messages = run(loop)
    assert [each for each in messages if getattr(each, "id", 0) == 1] == [Refused(1, "too complex")]
    assert answer(messages, 2) == "two"
    loop.handle(Generate(3, GenerateRequest(text("all slots are free"), choices=4)))
    assert isinstance(run(loop)[-1], Finished)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (GenerateRequest(text("hi"), sampling=Sampling(logit_bias={258: 1.0})), "logit_bias"),
        (GenerateRequest(text("hi"), resume=Resume(bytes(32), ((258,),))), "resume"),
    ],
)
def test_tokens_that_do_not_exist_are_refused_wherever_they_are_named(
    echo_model: Echo, request_: GenerateRequest, param: str
) -> None:
    [refused] = new_loop(echo_model(EngineParams(""))).handle(Generate(1, request_))
    assert refused == Refused(1, "there is no token 258; this model has 258", param=param)


def test_how_likely_tokens_were_comes_with_them(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    loop.handle(Generate(1, GenerateRequest(text("ab"), top_logprobs=2, max_tokens=1)))
    [piece] = [each for each in run(loop) if isinstance(each, Piece)]
    [logprob] = piece.logprobs
    assert (logprob.token, [token for token, _ in logprob.top]) == (b"a", [b"a", b"\0"])
    assert logprob.logprob == pytest.approx(0.0, abs=1e-6)
    assert logprob.top[1][1] == pytest.approx(-150.0)


PROMPT = "hello world"


@pytest.mark.parametrize("is_replayed", [False, True])
@pytest.mark.parametrize("cut", range(len("hello wor") + 1))
def test_what_was_delivered_elsewhere_is_gone_on_with(
    echo_model: Echo, cut: int, *, is_replayed: bool
) -> None:
    model = echo_model(EngineParams(""))
    loop = new_loop(model)
    resume = Resume(sha256_of(PROMPT), (tuple(PROMPT.encode()[:cut]),), is_replayed)
    request = GenerateRequest(text(PROMPT), stop=("wor",), resume=resume)
    # What it says follows from the prompt, which ends before what was delivered.
    model.prompts[0] = list(PROMPT.encode())
    model.prepare = lambda place: place.kept
    [accepted, *rest] = loop.handle(Generate(1, request))
    assert isinstance(accepted, Accepted)
    messages = [*rest, *run(loop)]
    [shown] = accepted.resumed
    assert shown + answer(messages, 1) == "hello "
    assert messages[-1] == finished(len(PROMPT), len("hello wor"))


def test_another_prompt_than_the_one_to_be_resumed_is_refused(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    request = GenerateRequest(text("hi"), resume=Resume(sha256_of("ho"), ((104,),)))
    assert loop.handle(Generate(1, request)) == [
        Refused(1, "the prompt to be resumed reads as other tokens here", "other_prompt")
    ]


def test_the_end_of_an_answer_is_no_part_of_what_was_delivered(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    [refused] = loop.handle(
        Generate(1, GenerateRequest(text("hi"), resume=Resume(sha256_of("hi"), ((256,),))))
    )
    assert isinstance(refused, Refused)


def test_an_answer_that_was_delivered_whole_ends_at_once(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    request = GenerateRequest(text("hi"), max_tokens=2, resume=Resume(sha256_of("hi"), ((104, 105),)))
    [accepted, end] = loop.handle(Generate(1, request))
    assert isinstance(accepted, Accepted)
    assert accepted.resumed == ("hi",)
    assert end == finished(2, 2, "length")
    assert not loop.has_work


def sha256_of(prompt: str) -> bytes:
    return hashlib.sha256(b"".join(bytes([byte, 0, 0, 0]) for byte in prompt.encode())).digest()
