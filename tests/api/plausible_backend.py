"""A backend that answers whatever it is asked with something of the right shape."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import trio

from federation.backend import (
    Answer,
    AnswerEvent,
    Chunk,
    Done,
    FinishReason,
    InferenceRequest,
    ModelInfo,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from ledger.records import ModelName
from p2p.peer import PeerId


class PlausibleBackend:
    """Knows every model by any name."""

    def models(self) -> Sequence[ModelInfo]:
        return (
            ModelInfo(ModelName("m"), "loaded", ("chat", "completion"), 4096),
            ModelInfo(ModelName("broken"), "failed", ("chat",), 0, "not a model at all"),
        )

    @asynccontextmanager
    async def infer(self, request: InferenceRequest) -> AsyncIterator[Answer]:
        yield Answer(PeerId("12D3KooWMe"), bytes(32), 3, _events(request))


async def _events(request: InferenceRequest) -> AsyncIterator[AnswerEvent]:
    for event in _answer(request):
        await trio.lowlevel.checkpoint()
        yield event


def _answer(request: InferenceRequest) -> Iterator[AnswerEvent]:
    reasons: tuple[FinishReason, ...] = ()
    match request.kind:
        case "chat" | "completion":
            for choice in range(request.choices):
                yield _piece(request, choice)
            reason: FinishReason = "tool_calls" if _must_call(request) else "stop"
            reasons = (reason,) * request.choices
        case "embeddings":
            for number in range(len(request.inputs)):
                yield Chunk(number, (), "", vector=struct.pack("<4f", 0.5, -0.5, 0.5, 0.5))
        case "rerank":
            for number in range(len(request.inputs)):
                yield Chunk(number, (), "", vector=struct.pack("<f", number / 7))
        case "tokenize":
            yield Chunk(0, (1, 2, 3), "")
        case "detokenize":
            yield Chunk(0, (), "Grüße 🙂")
    yield Done(reasons, Usage(3, len(reasons)), Timings())


def _piece(request: InferenceRequest, choice: int) -> Chunk:
    top = ((b" yes", -0.5), (b"\xf0\x9f", -2.0))[: request.top_logprobs]
    logprobs = () if request.top_logprobs is None else (TokenLogprob(b" yes", -0.5, top),)
    if _must_call(request):
        name = request.tools[0]["function"]["name"]
        call = ToolCallDelta(0, f"call_{choice}", name, "{}")
        return Chunk(choice, (7,), "", reasoning="Hm.", tool_calls=(call,), logprobs=logprobs)
    return Chunk(choice, (7,), " yes", logprobs=logprobs)


def _must_call(request: InferenceRequest) -> bool:
    return bool(request.tools) and request.tool_choice not in ("auto", "none")
