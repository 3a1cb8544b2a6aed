"""Vectors over HTTP: what is asked, how they are worded, and what is refused."""

from __future__ import annotations

import base64
import math
import struct
from typing import TYPE_CHECKING, Any

import pytest
import trio
from openai.types import CreateEmbeddingResponse

from api.openapi import EmbeddingList
from federation.backend import AnswerEvent, Chunk, Done, Timings, Usage
from federation.errors import BadRequest
from federation.infer import FRAME_SIZE_MAX, Request
from federation.infer_codec import decode_from_front_untrusted, encode
from federation.request_limits import INPUTS_MAX
from p2p.framing import encode_frame
from tests.api.stub_backend import SERVED_BY

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.conftest import Bench
    from tests.asgi import Reply

FIRST, SECOND = (0.1, -3.0, 4.0), (1e-9, 2.0**60, 0.0)


def packed(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def answer(*vectors: bytes) -> list[AnswerEvent]:
    """Each vector in two pieces, the last vector first."""
    chunks = [
        Chunk(number, (), "", vector=piece)
        for number, vector in reversed(list(enumerate(vectors)))
        for piece in (vector[:4], vector[4:])
    ]
    return [*chunks, Done((), Usage(9, 0), Timings(prefill=0.25))]


@pytest.fixture
def bench(new_bench: Callable[..., Bench]) -> Bench:
    """A model that gives two vectors."""
    return new_bench(script=answer(packed(*FIRST), packed(*SECOND)))


def embed(bench: Bench, **body: Any) -> Reply:
    return bench.call("POST", "/v1/embeddings", {"model": "stub", "input": ["a", "b"], **body})


def as_float32(numbers: tuple[float, ...]) -> tuple[float, ...]:
    return struct.unpack(f"<{len(numbers)}f", packed(*numbers))


def test_vectors_come_in_the_order_of_the_texts_and_to_the_bit(bench: Bench) -> None:
    reply = embed(bench)
    body = reply.json()
    EmbeddingList.model_validate(body)
    CreateEmbeddingResponse.model_validate(body, strict=True)
    assert [each["index"] for each in body["data"]] == [0, 1]
    assert [packed(*each["embedding"]) for each in body["data"]] == [packed(*FIRST), packed(*SECOND)]
    assert body["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    assert body["model"] == "stub"
    assert reply.headers["x-localai-peer"] == SERVED_BY
    assert "prefill;dur=" in reply.headers["server-timing"]


def test_base64_is_of_32_bit_floats(bench: Bench) -> None:
    data = embed(bench, encoding_format="base64").json()["data"]
    assert [base64.b64decode(each["embedding"]) for each in data] == [packed(*FIRST), packed(*SECOND)]


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_shortened_vectors_have_a_length_of_one(bench: Bench, encoding_format: str) -> None:
    data = embed(bench, dimensions=2, encoding_format=encoding_format).json()["data"]
    for each in data:
        found = each["embedding"]
        numbers = found if encoding_format == "float" else struct.unpack("<2f", base64.b64decode(found))
        assert len(numbers) == 2
        assert math.hypot(*numbers) == pytest.approx(1)
        assert numbers[0] >= 0


def test_a_vector_of_zeros_stays_one(new_bench: Callable[..., Bench]) -> None:
    zeros = new_bench(script=answer(packed(0, 0), packed(0, 0)))
    assert embed(zeros, dimensions=1).json()["data"][0]["embedding"] == [0]


def test_more_dimensions_than_there_are_is_a_fault_of_the_request(bench: Bench) -> None:
    reply = embed(bench, dimensions=4)
    assert (reply.status, reply.json()["error"]["param"]) == (400, "dimensions")
    assert "3 numbers" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ("text", ("text",)),
        (["one", "two"], ("one", "two")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
def test_an_input_is_text_or_ids_one_or_several(
    new_bench: Callable[..., Bench], said: Any, sent: tuple[Any, ...]
) -> None:
    bench = new_bench(script=answer(*[packed(1)] * len(sent)))
    assert embed(bench, input=said).status == 200
    [request] = bench.backend.requests
    assert (request.kind, request.inputs, request.is_streamed) == ("embeddings", sent, False)


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": [[1], []]}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": [-1]}, "input"),
        ({"input": None}, "input"),
        ({"input": "\ud800"}, "input"),
        ({"input": ["a"] * (INPUTS_MAX + 1)}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": 65_537}, "dimensions"),
        ({"dimensions": "3"}, "dimensions"),
        ({"model": ""}, "model"),
    ],
)
def test_a_wrong_parameter_is_named(bench: Bench, said: dict[str, Any], param: str) -> None:
    reply = embed(bench, **said)
    assert reply.status == 400
    assert reply.json()["error"]["param"].startswith(param)
    assert bench.backend.requests == []


@pytest.mark.parametrize(
    "script",
    [
        answer(packed(1)),
        answer(packed(1), b""),
        answer(packed(1), packed(2)[:3]),
        answer(packed(1), packed(math.nan)),
        answer(packed(1), packed(1, math.inf)),
        answer(packed(1), packed(2))[:-1],
    ],
)
@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_half_an_answer_is_none(
    new_bench: Callable[..., Bench], script: list[AnswerEvent], encoding_format: str
) -> None:
    assert embed(new_bench(script=script), encoding_format=encoding_format).status == 502


def test_a_model_that_gives_no_vectors_is_told(new_bench: Callable[..., Bench]) -> None:
    wrong = new_bench(on_enter=BadRequest("stub is not a model for embeddings", param="model"))
    reply = embed(wrong)
    assert (reply.status, reply.json()["error"]["param"]) == (400, "model")


def test_as_many_as_are_taken_can_be_sent_on_to_a_peer(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench(script=answer(*[packed(1)] * INPUTS_MAX))
    assert embed(bench, input=["x" * 1900] * INPUTS_MAX).status == 200
    asked = encode(Request(bench.backend.requests[0]))
    encode_frame(asked, FRAME_SIZE_MAX)
    decode_from_front_untrusted(asked)


def test_others_go_on_while_many_vectors_are_worded(
    new_bench: Callable[..., Bench], run_mocked: Callable[..., Any]
) -> None:
    count = 200
    bench = new_bench(script=answer(*[packed(1)] * count))
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async def main() -> None:
        body = {"model": "stub", "input": ["x"] * count}
        async with trio.open_nursery() as nursery:
            async with bench.open("POST", "/v1/embeddings", json_body=body) as exchange:
                # The stub gives others a turn for each of its chunks too, of which there are two per vector.
                nursery.start_soon(take_turns)
                assert len((await exchange.reply()).json()["data"]) == count
            nursery.cancel_scope.cancel()

    run_mocked(main)
    assert turns > 2.5 * count
