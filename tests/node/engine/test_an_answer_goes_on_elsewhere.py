"""What was delivered and what another engine says after it are the answer that one engine alone gives."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.backend import Delivered, FinishReason, Resume
from node.engine.sampling import Scores
from node.engine.scheduler import Scheduler, SchedulerConfig
from node.engine.step_loop import StepLoop
from node.engine.wire import (
    Accepted,
    Credit,
    EngineParams,
    FilledSampling,
    Finished,
    FromChild,
    Generate,
    GenerateRequest,
    Piece,
    PromptPart,
)

Echo = Callable[..., Any]

PROMPT = "say something"
ROCKET = "🚀".encode()
END = 256


def babble(context: Sequence[int]) -> Scores:
    """Letters, an accent and rockets, of which the bytes come one by one and sometimes not all; or the end.

    What may come follows from the latest token alone, so chance tells one choice from another.
    """
    latest = context[-1]
    after = {ROCKET[0]: ROCKET[1], ROCKET[1]: ROCKET[2], ROCKET[2]: ROCKET[3], 0xC3: 0xA9}
    scores = np.full(258, -100.0, np.float32)
    for token in (after[latest],) if latest in after else (*b"abc", 0xC3, ROCKET[0], END):
        scores[token] = 10.0
    if latest in after:
        scores[END] = 8.0
    return scores


def new_loop(echo_model: Echo) -> StepLoop:
    model = echo_model(EngineParams(""))
    model.scores = lambda row: babble(model.contexts[model.batches[-1][row].slot])
    scheduler = Scheduler(SchedulerConfig(slots=4), prefill_speed=1000.0)
    return StepLoop(model, scheduler, lambda: 0.0, new_seed=lambda: 1)


def said(echo_model: Echo, request: GenerateRequest) -> list[FromChild]:
    loop = new_loop(echo_model)
    messages = loop.handle(Generate(1, request))
    for choice in range(request.choices):
        loop.handle(Credit(1, choice, 100))
    while loop.has_work:
        messages += loop.step()
    return messages


@dataclass
class Told:
    """What a reader has of one choice."""

    ids: tuple[int, ...] = ()
    text: str = ""

    def read(self, pieces: Sequence[Piece]) -> Told:
        ids = tuple(token for piece in pieces for token in piece.token_ids)
        return Told(self.ids + ids, self.text + "".join(piece.text for piece in pieces))


def pieces_of(messages: Sequence[FromChild], choice: int) -> list[Piece]:
    return [each for each in messages if isinstance(each, Piece) and each.choice == choice]


def end_of(messages: Sequence[FromChild]) -> Finished:
    [end] = [each for each in messages if isinstance(each, Finished)]
    return end


requests = st.builds(
    GenerateRequest,
    st.just((PromptPart(PROMPT, parse_special=True),)),
    st.integers(0, 1000).map(lambda seed: FilledSampling(seed=seed)),
    max_tokens=st.integers(1, 20),
    stop=st.lists(st.sampled_from(["ab", "abc", "c🚀", "éa", "🚀🚀"]), max_size=3).map(tuple),
    ignore_eos=st.booleans(),
    choices=st.integers(1, 3),
    is_echoed=st.booleans(),
)


@settings(max_examples=200, deadline=None)
@given(requests, st.data(), st.booleans())
def test_wherever_an_answer_is_cut_it_goes_on_as_if_it_was_not(
    echo_model: Echo, request_: GenerateRequest, data: st.DataObject, is_replayed: bool
) -> None:
    whole = said(echo_model, request_)
    reasons = end_of(whole).reasons
    delivered: list[Told] = []
    choices: list[Delivered] = []
    for choice, reason in enumerate(reasons):
        pieces = pieces_of(whole, choice)
        cut = data.draw(st.integers(0, len(pieces)))
        # An older node passes no end on; where it comes of the last token nothing is lost.
        is_told = cut == len(pieces) and (not pieces[-1].token_ids or data.draw(st.booleans()))
        told = Told().read(pieces[:cut])
        delivered.append(told)
        choices.append(Delivered(told.ids, reason if is_told else None))
    assert isinstance(whole[0], Accepted)
    resume = Resume(whole[0].prompt_sha256, tuple(choices), is_replayed)
    rest = said(echo_model, replace(request_, resume=resume))
    assert isinstance(rest[0], Accepted)
    assert rest[0].resumed == tuple(told.text for told in delivered)
    for choice, told in enumerate(delivered):
        assert told.read(pieces_of(rest, choice)) == Told().read(pieces_of(whole, choice))
    assert replace(end_of(rest), cached_tokens=0) == replace(end_of(whole), cached_tokens=0)


def resumed(echo_model: Echo, delivered: Delivered, **more: Any) -> list[FromChild]:
    sha256 = hashlib.sha256(struct.pack("<2i", *b"ab")).digest()
    request = GenerateRequest((PromptPart("ab", parse_special=True),), **more)
    [_, *messages] = said(echo_model, replace(request, resume=Resume(sha256, (delivered,))))
    return messages


def ended(reason: FinishReason, tokens: int) -> Finished:
    return Finished(1, (reason,), 2, tokens, 0, 0, 0, 0)


def test_a_choice_that_had_ended_is_not_sampled_again(echo_model: Echo) -> None:
    assert resumed(echo_model, Delivered(tuple(b"a"), "tool_calls"), stop=("ab",)) == [ended("tool_calls", 1)]


def test_the_last_piece_of_a_choice_says_why_it_ended(echo_model: Echo) -> None:
    for max_tokens in (1, 20):
        request = GenerateRequest((PromptPart("ab", parse_special=True),), max_tokens=max_tokens, choices=3)
        messages = said(echo_model, request)
        for choice, reason in enumerate(end_of(messages).reasons):
            *others, last = (each.finish_reason for each in pieces_of(messages, choice))
            assert (others, last) == ([None] * len(others), reason)
