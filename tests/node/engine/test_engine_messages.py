"""The wire between a node and its engine."""

from __future__ import annotations

from typing import Any

import pytest

from federation.backend import Delivered, Resume, TokenLogprob
from node.engine.wire import (
    FRAME_SIZE_MAX,
    Accepted,
    Cancel,
    Credit,
    EngineParams,
    FilledSampling,
    Finished,
    FromChild,
    Generate,
    GenerateRequest,
    Load,
    Loaded,
    LoadFailed,
    Loading,
    ModelFacts,
    Piece,
    Ping,
    Pong,
    Prefilled,
    PromptPart,
    Ready,
    Refused,
    ToChild,
)
from node.engine.wire_codec import from_child, to_child, to_map
from p2p.errors import BadFrame
from p2p.framing import FrameDecoder, encode_frame

FACTS = ModelFacts(4096, 49152, None, "<s>", "</s>", ("<s>", "</s>"), (1, 2))
REQUEST = GenerateRequest(
    prompt=(PromptPart("<s>", parse_special=True), PromptPart("hi\0🙂", parse_special=False), 7),
    sampling=FilledSampling(temperature=0.5, seed=2**40, logit_bias={7: -1.5}),
    max_tokens=5,
    stop=("\n", "🙂"),
    ignore_eos=True,
    choices=2,
    top_logprobs=3,
    grammar="start: /a+/",
    shown=("<think>",),
    suffix="",
    is_echoed=True,
    resume=Resume(b"\0" * 32, (Delivered((1, 2), "length"), Delivered()), is_replayed=True),
)


def over_the_wire(message: ToChild | FromChild) -> dict[str, Any]:
    [received] = FrameDecoder(FRAME_SIZE_MAX).feed_untrusted(encode_frame(to_map(message), FRAME_SIZE_MAX))
    return received


@pytest.mark.parametrize(
    "message", [Load(EngineParams("m.gguf")), Generate(1, REQUEST), Credit(1, 0, 16), Cancel(1), Ping()]
)
def test_what_is_said_to_a_child_arrives_unchanged(message: ToChild) -> None:
    assert to_child(over_the_wire(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        Loading(0.25),
        Loaded(FACTS, 2**40),
        Ready(0.4),
        Pong(),
        LoadFailed("missing"),
        Accepted(1, b"\xff" * 32, 9, ("as it", "was")),
        Refused(1, "too long", "too_long"),
        Prefilled(1, 5, 9),
        Piece(1, 2, (7,), "🙂"),
        Piece(1, 0, (7,), "a", (TokenLogprob(b"a", -0.5, ((b"a", -0.5), (b"\xff", -9.0))),)),
        Finished(1, ("stop", "length"), 9, 3, 4, 0.1, 0.2, 0.3),
    ],
)
def test_what_a_child_says_arrives_unchanged(message: FromChild) -> None:
    assert from_child(over_the_wire(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"kind": "Nonsense"},
        {"kind": 7},
        {"kind": ["Ready"]},
        {"kind": "Ready", "step_seconds": 0.4, "more": 1},
        {"kind": "Piece", "id": 1},
        {"kind": "Loaded", "facts": None},
        {"kind": "Generate", "id": 1, "request": {}},
    ],
)
def test_anything_else_is_a_bad_frame(message: dict[str, Any]) -> None:
    for parse in (from_child, to_child):
        with pytest.raises(BadFrame):
            parse(message)


def test_neither_side_says_what_the_other_one_should() -> None:
    with pytest.raises(BadFrame):
        from_child(to_map(Cancel(1)))
    with pytest.raises(BadFrame):
        to_child(to_map(Ready(0.4)))
