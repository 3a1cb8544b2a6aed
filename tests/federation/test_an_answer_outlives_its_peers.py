"""Wherever an answer is cut, and however often, a client gets what it would have got without a cut.

The peers run our own engine's loop over a model whose text follows from its context, and each message takes
the form in which it travels.
"""

from __future__ import annotations

import runpy
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import numpy as np
import trio
import trio.testing
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from federation.backend import (
    Answer,
    AnswerEvent,
    Chunk,
    Done,
    FinishReason,
    InferenceRequest,
    RequestId,
    Resumed,
    Sampling,
    TokenLogprob,
)
from federation.chunk_sizing import pieces
from federation.errors import BadRequest, PeerGone
from federation.front import Front
from federation.infer import Request
from federation.infer_codec import decode_from_front_untrusted, decode_from_worker_untrusted, encode
from ledger.records import AliasRecord, ModelName, ModelRecord
from ledger.view import NodeView
from node.answer_reader import AnswerReader
from node.chat.answer_parser import AnswerParser
from node.chat.call_parser import CallParser
from node.chat.formats.choice import FORMATS
from node.chat.reasoning import ReasoningSplitter
from node.engine.generation import Generation
from node.engine.sampling import Scores
from node.engine.scheduler import Scheduler, SchedulerConfig
from node.engine.step_loop import StepLoop
from node.engine.wire import Accepted as EngineAccepted
from node.engine.wire import Credit, EngineParams, Generate, PromptPart
from node.engine.wire import Refused as EngineRefused
from node.engine_request import engine_request
from node.models.model_yaml import ModelSettings
from p2p.peer import PeerId
from p2p.revision import Revision

EchoModel = runpy.run_path(str(Path(__file__).parent.parent / "node" / "engine" / "echo_child.py"))[
    "EchoModel"
]
MODEL = ModelName("tiny")
SHA256 = "a" * 64
PROMPT = "say something"
END = 256
ROCKET = "🚀".encode()
CALL = '<tool_call>\n{"name": "f", "arguments": {"n": 11}}\n</tool_call>'
SPOKEN = f'<think>So "é"?</think>\nWell: {CALL}\nok 🚀 1'.encode()
"""Where a 1 is, it may be any of three digits."""


def babble(context: Sequence[int]) -> Scores:
    """Letters, an accent and rockets, of which the bytes come one by one, or the end."""
    latest = context[-1]
    after = {ROCKET[0]: ROCKET[1], ROCKET[1]: ROCKET[2], ROCKET[2]: ROCKET[3], 0xC3: 0xA9}
    return likely(*((after[latest],) if latest in after else (*b"abc", 0xC3, ROCKET[0], END)))


def recital(context: Sequence[int]) -> Scores:
    """A thought, a call, and some text."""
    place = len(context) - len(PROMPT)
    if place >= len(SPOKEN):
        return likely(END)
    return likely(*b"123") if SPOKEN[place : place + 1] == b"1" else likely(SPOKEN[place])


def likely(*tokens: int) -> Scores:
    scores = np.full(258, -100.0, np.float32)
    scores[list(tokens)] = 10.0
    return scores


@dataclass
class LoopPeer:
    """A worker with an engine of its own."""

    peer: PeerId
    deaths: Iterator[int]
    """After how many events each of its answers, and those of its like, breaks off."""
    asked: list[InferenceRequest] = field(default_factory=list)

    @asynccontextmanager
    async def infer(self, request: InferenceRequest) -> AsyncIterator[Answer]:
        self.asked.append(request)
        await trio.lowlevel.checkpoint()
        said = decode_from_front_untrusted(travelled(encode(Request(request))))
        assert isinstance(said, Request)
        generation, events = await generate(said.request)
        sent = [
            decode_from_worker_untrusted(travelled(encode(part))) for event in events for part in parts(event)
        ]
        yield Answer(
            self.peer,
            generation.prompt_sha256,
            generation.prompt_tokens,
            AnswerEvents(iter(sent), next(self.deaths, None)),
        )


@dataclass
class AnswerEvents:
    """`sent`, as far as the peer lives. A chunk that was cut comes whole or not at all."""

    sent: Iterator[Any]
    left: int | None
    is_in_chunk: bool = False

    def __aiter__(self) -> AnswerEvents:
        return self

    async def __anext__(self) -> Any:
        await trio.lowlevel.checkpoint()
        if self.left == 0 and not self.is_in_chunk:
            raise PeerGone("it was killed")
        if self.left and not self.is_in_chunk:
            self.left -= 1
        event = next(self.sent, None)
        if event is None:
            raise StopAsyncIteration
        self.is_in_chunk = isinstance(event, Chunk) and event.is_cut
        return event


def travelled(message: dict[str, Any]) -> dict[str, Any]:
    received: dict[str, Any] = msgpack.unpackb(msgpack.packb(message))
    return received


def parts(event: AnswerEvent) -> Iterator[Any]:
    return pieces(event) if isinstance(event, Chunk) else iter([event])


async def generate(request: InferenceRequest) -> tuple[Generation, list[AnswerEvent]]:
    """All that our own worker would say, its engine running as far as it goes."""
    scores = babble if request.kind == "completion" else recital
    model = EchoModel(EngineParams("", context_size=256))
    model.scores = lambda row: scores(model.contexts[model.batches[-1][row].slot])
    loop = StepLoop(
        model,
        Scheduler(SchedulerConfig(slots=4), prefill_speed=1000.0),
        lambda: len(model.batches) * 0.004,
        new_seed=lambda: 1,
    )
    asked = engine_request(request, ModelSettings(), (PromptPart(PROMPT, parse_special=True),), stops=())
    first, *messages = loop.handle(Generate(1, asked))
    if isinstance(first, EngineRefused):
        raise BadRequest(first.reason)
    assert isinstance(first, EngineAccepted)
    for choice in range(request.choices):
        loop.handle(Credit(1, choice, 200))
    while loop.has_work:
        messages += loop.step()
    generation = Generation(request.choices, 1, lambda choice, tokens: None)
    generation._incoming, generation._events = trio.open_memory_channel(1000)
    for message in (first, *messages):
        generation.on_message(message)  # type: ignore[arg-type]  # only such come of a generation
    chat = [
        AnswerParser(
            ReasoningSplitter("possible"),
            CallParser(FORMATS["hermes"].read, {"f"}, lambda index: f"id{index}"),
        )
        for _ in range(request.choices if request.kind == "chat" else 0)
    ]
    delivered = request.resume.choices if request.resume else ()
    reader = AnswerReader(chat, generation.resumed, delivered)
    return generation, [said async for event in generation.events for said in reader.read(event)]


@dataclass
class Told:
    """What a client has of one choice."""

    ids: list[int] = field(default_factory=list)
    text: str = ""
    reasoning: str = ""
    calls: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    reasons: list[FinishReason] = field(default_factory=list)


@dataclass
class Outcome:
    """What a client has of an answer."""

    choices: dict[int, Told]
    done: Done
    seams: int


def outcome_of(events: Sequence[AnswerEvent]) -> Outcome:
    choices: dict[int, Told] = defaultdict(Told)
    for event in events:
        if not isinstance(event, Chunk):
            continue
        told = choices[event.choice]
        told.ids += event.token_ids
        told.text += event.text
        told.reasoning += event.reasoning
        told.logprobs += event.logprobs
        for call in event.tool_calls:
            id_, name, arguments = told.calls.get(call.index, ("", "", ""))
            told.calls[call.index] = (id_ + call.id, name + call.name, arguments + call.arguments)
        if event.finish_reason is not None:
            told.reasons.append(event.finish_reason)
    *_, done = events
    assert isinstance(done, Done)
    return Outcome(dict(choices), done, sum(isinstance(event, Resumed) for event in events))


class View:
    revision = Revision()

    def aliases(self) -> dict[ModelName, AliasRecord]:
        return {}

    def nodes(self) -> list[NodeView]:
        record = ModelRecord(MODEL, "loaded", ("chat",), slots=4, sha256=SHA256)
        return [
            NodeView(PeerId(name), name, "online", "worker", "1", is_connected=True, models=(record,))
            for name in "abc"
        ]


def served(request: InferenceRequest, deaths: Sequence[int]) -> Outcome:
    """What comes of `request` where each answer breaks off after so many events, until none are left."""

    async def main() -> Outcome:
        left = iter(deaths)
        front = Front(
            PeerId("me"),
            View(),
            local=None,
            remote=lambda peer: LoopPeer(peer, left),
            rng=Random(0),
            on_peer_failure=lambda peer, reason: None,
        )
        async with front.infer(request) as answer:
            outcome = outcome_of([event async for event in answer.events])
        assert not any(front.leases.count(PeerId(name), MODEL) for name in "abc")
        return outcome

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


requests = st.builds(
    InferenceRequest,
    st.sampled_from(["completion", "chat"]),
    st.just(RequestId("request")),
    st.just(MODEL),
    prompt=st.just(PROMPT),
    sampling=st.integers(0, 1000).map(lambda seed: Sampling(temperature=1.0, seed=seed)),
    max_tokens=st.integers(1, 120),
    stop=st.lists(st.sampled_from(["ab", "abc", "c🚀", "éa", "🚀🚀", "ok"]), max_size=3).map(tuple),
    top_logprobs=st.none() | st.integers(0, 20),
    ignore_eos=st.booleans(),
    choices=st.integers(1, 3),
    is_streamed=st.booleans(),
)
"""An answer may be longer than a frame with its probabilities, so chunks are cut too."""

WORDLESS_MAX = 3 * (8 + 1)
"""Events that may come before a client is told anything: each of three choices may hold back eight tokens,
of `🚀🚀`, or seven, of `<think>`, and end."""

deaths_of_peers = st.lists(st.integers(1, 2 * WORDLESS_MAX), max_size=6).filter(
    lambda deaths: sum(after <= WORDLESS_MAX for after in deaths) <= 2
)
"""The third peer that dies before anything was delivered is the last that is asked."""


@settings(max_examples=50, deadline=None, phases=set(Phase) - {Phase.explain})
@given(requests, deaths_of_peers)
@example(
    InferenceRequest(
        "chat",
        RequestId("request"),
        MODEL,
        prompt=PROMPT,
        sampling=Sampling(temperature=1.0, seed=0),
        max_tokens=30,
        choices=3,
        is_streamed=True,
    ),
    [1, 1, WORDLESS_MAX + 1],
)
def test_wherever_it_is_cut_it_is_the_same_answer(request: InferenceRequest, deaths: list[int]) -> None:
    whole, cut = served(request, []), served(request, deaths)
    assert cut.choices == whole.choices
    assert cut.done.finish_reasons == whole.done.finish_reasons
    assert cut.done.usage == replace(whole.done.usage, cached_tokens=cut.done.usage.cached_tokens)
