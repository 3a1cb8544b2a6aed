"""The step loop over a model that says the prompt again."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from federation.backend import Delivered, FinishReason, Resume
from node.engine.engine_prompt import TOKENS_AT_ONCE_MAX
from node.engine.errors import PromptRefused
from node.engine.sampling import Scores
from node.engine.scheduler import Scheduler, SchedulerConfig, Span
from node.engine.step_loop import StepLoop
from node.engine.wire import (
    FRAME_SIZE_MAX,
    UNREAD_TOKENS_MAX,
    Accepted,
    Cancel,
    Credit,
    Detokenize,
    DetokenizeRequest,
    EngineParams,
    FilledSampling,
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
        Piece(1, 0, (), "", finish_reason="stop"),
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


def test_what_a_model_says_by_default_is_cut_to_what_its_context_holds(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("", context_size=8)))
    for default, said in ((100, "hel"), (2, "he")):
        request = GenerateRequest(text("hello"), max_tokens_default=default, ignore_eos=True)
        loop.handle(Generate(1, request))
        messages = run(loop)
        assert answer(messages, 1) == said
        assert messages[-1] == finished(5, len(said), "length")


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
    assert messages[-2:] == [Piece(1, 0, (), " tw", finish_reason="stop"), finished(6, 6)]


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


@pytest.mark.parametrize("steps", range(8))
@pytest.mark.parametrize("is_replayed", [False, True])
def test_whenever_a_request_is_cancelled_its_slots_are_free_before_the_next_step(
    echo_model: Echo, steps: int, *, is_replayed: bool
) -> None:
    model = echo_model(EngineParams(""))
    loop = new_loop(model, speed=20.0)
    resume = Resume(sha256_of("x" * 30), (Delivered(tuple(b"xxx")), Delivered(), Delivered((), "stop")))
    request = GenerateRequest(text("x" * 30), choices=3, resume=resume if is_replayed else None)
    loop.handle(Generate(1, request))
    for _ in range(steps):
        loop.step()
    loop.handle(Cancel(1))
    assert not loop.has_work
    loop.handle(Generate(2, GenerateRequest(text("next"), choices=4)))
    loop.step()
    assert {span.id[0] for span in model.batches[-1]} == {2}
    assert isinstance(run(loop)[-1], Finished)


def test_streams_go_on_at_every_step_while_long_prompts_are_read(echo_model: Echo) -> None:
    model, clock = echo_model(EngineParams("", context_size=10_000)), Clock()
    decode = model.decode

    def decode_in_time(spans: list[Span]) -> Any:
        clock.now += 0.05 + sum(len(span.tokens) for span in spans) / 2000.0
        return decode(spans)

    model.decode = decode_in_time
    loop = new_loop(model, clock, speed=2000.0)
    for request_id in (1, 2):
        loop.handle(Generate(request_id, GenerateRequest(text("x"), ignore_eos=True, max_tokens=30)))
    for _ in range(2):
        loop.step()
    for request_id in (3, 4):
        loop.handle(Generate(request_id, GenerateRequest(text("y" * 1500), max_tokens=1)))
    heard: list[set[int]] = []
    for _ in range(20):
        before = clock.now
        heard.append({each.id for each in loop.step() if isinstance(each, Piece)})
        assert clock.now - before <= 3.1 * 0.05, "three times what the streams are used to"
    assert all({1, 2} <= each for each in heard)
    assert {3, 4} <= set.union(*heard), "and the prompts are read meanwhile"


def test_messages_that_crossed_the_end_are_ignored(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    assert loop.handle(Cancel(1)) == []
    assert loop.handle(Credit(1, 0, 5)) == []


def test_a_reader_that_stops_reading_pauses_its_own_sequence_only(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    loop.handle(Generate(1, GenerateRequest(text("x"), max_tokens=100, ignore_eos=True)))
    loop.handle(Generate(2, GenerateRequest(text("y" * 60), ignore_eos=True, max_tokens=60)))
    messages = run(loop, steps_max=UNREAD_TOKENS_MAX)
    loop.handle(Credit(2, 0, UNREAD_TOKENS_MAX))
    messages += run(loop)
    assert answer(messages, 1) == "x" * UNREAD_TOKENS_MAX
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
    request = GenerateRequest(text("a prompt that is long enough"), sampling=FilledSampling(seed=7))
    for _ in range(2):
        loop.handle(Generate(1, request))
        assert run(loop)[-1] == finished(28, 28)


def test_an_echoed_answer_begins_with_its_prompt(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    for prompt in (text("one ", "two"), tuple(b"one two")):
        loop.handle(Generate(1, GenerateRequest(prompt, is_echoed=True, max_tokens=2)))
        messages = run(loop)
        assert messages[:2] == [
            Piece(1, 0, (111,), "one twoo"),
            Piece(1, 0, (110,), "n", finish_reason="length"),
        ]


@pytest.mark.parametrize("prompt", [(104,) * (TOKENS_AT_ONCE_MAX + 1), text("x" * (FRAME_SIZE_MAX // 2 + 1))])
def test_more_than_can_be_said_at_once_is_not_echoed(
    echo_model: Echo, prompt: tuple[PromptPart | int, ...]
) -> None:
    model = echo_model(EngineParams("", context_size=FRAME_SIZE_MAX))
    model.tokenize = lambda part: [104]
    [refused] = new_loop(model).handle(Generate(1, GenerateRequest(prompt, is_echoed=True)))
    assert isinstance(refused, Refused)
    assert refused.param == "echo"


def test_tokens_that_stand_for_too_long_a_text_are_not_looked_up(echo_model: Echo) -> None:
    model = echo_model(EngineParams(""))
    model.piece = lambda token: bytes([255]) * 256
    [refused] = new_loop(model).handle(Detokenize(1, DetokenizeRequest((1,) * TOKENS_AT_ONCE_MAX)))
    assert isinstance(refused, Refused)
    assert refused.param == "tokens"


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


def test_choices_follow_one_grammar_each_by_itself(echo_model: Echo) -> None:
    model = echo_model(EngineParams(""))
    loop = new_loop(model)
    loop.handle(Generate(1, GenerateRequest(text("anything"), grammar="{}", choices=3)))
    assert model.compiled == ["{}"]
    pieces = [each for each in run(loop) if isinstance(each, Piece)]
    assert Counter((piece.choice, piece.text) for piece in pieces) == Counter(
        (choice, text) for choice in range(3) for text in "{}"
    )


def test_a_grammar_that_fails_on_the_way_ends_its_own_request_alone(echo_model: Echo) -> None:
    model = echo_model(EngineParams(""))

    class Failing:
        is_over = False

        def restrict(self, scores: Scores) -> bool:
            raise PromptRefused("too complex")

        def accept(self, token: int) -> bool:
            return True

        def copy(self) -> Failing:
            return Failing()

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
        (GenerateRequest(text("hi"), sampling=FilledSampling(logit_bias={258: 1.0})), "logit_bias"),
        (GenerateRequest(text("hi"), resume=Resume(bytes(32), (Delivered((258,)),))), "resume"),
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
    resume = Resume(sha256_of(PROMPT), (Delivered(tuple(PROMPT.encode()[:cut])),), is_replayed)
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
    request = GenerateRequest(text("hi"), resume=Resume(sha256_of("ho"), (Delivered((104,)),)))
    assert loop.handle(Generate(1, request)) == [
        Refused(1, "the prompt to be resumed reads as other tokens here", "other_prompt")
    ]


def test_what_takes_too_long_to_follow_is_not_gone_on_with(echo_model: Echo) -> None:
    clock = Clock(per_reading=0.1)
    loop = new_loop(echo_model(EngineParams("")), clock)
    resume = Resume(sha256_of("hi"), (Delivered(tuple(b"hihihi")),))
    [refused] = loop.handle(Generate(1, GenerateRequest(text("hi"), resume=resume)))
    assert refused == Refused(1, "what was delivered takes too long to follow", param="resume")


def test_the_end_of_an_answer_is_no_part_of_what_was_delivered(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    [refused] = loop.handle(
        Generate(1, GenerateRequest(text("hi"), resume=Resume(sha256_of("hi"), (Delivered((256,)),))))
    )
    assert isinstance(refused, Refused)


def test_an_answer_that_was_delivered_whole_ends_at_once(echo_model: Echo) -> None:
    loop = new_loop(echo_model(EngineParams("")))
    resume = Resume(sha256_of("hi"), (Delivered((104, 105)),))
    request = GenerateRequest(text("hi"), max_tokens=2, resume=resume)
    [accepted, end] = loop.handle(Generate(1, request))
    assert isinstance(accepted, Accepted)
    assert accepted.resumed == ("hi",)
    assert end == finished(2, 2, "length")
    assert not loop.has_work


def sha256_of(prompt: str) -> bytes:
    return hashlib.sha256(b"".join(bytes([byte, 0, 0, 0]) for byte in prompt.encode())).digest()
