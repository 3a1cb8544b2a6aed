"""Several prompts in one request are several requests whose answers come as one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import trio
from openai.types import Completion

from api.several import infer_several
from federation.backend import (
    Answer,
    AnswerEvent,
    Chunk,
    Done,
    FinishReason,
    InferenceRequest,
    Progress,
    RequestId,
    Timings,
    Usage,
)
from federation.errors import Busy, Failed, FederationError, Misbehaved
from ledger.records import ModelName
from p2p.peer import PeerId
from tests.api.stub_backend import words
from tests.mock_time import run

if TYPE_CHECKING:
    from tests.api.conftest import Bench
    from tests.asgi import Reply


def stops(count: int) -> tuple[FinishReason, ...]:
    stop: FinishReason = "stop"
    return (stop,) * count


@dataclass
class Slots:
    """Repeats each prompt, in a second per letter, once a slot is free."""

    count: int = 2
    is_streamed: bool = True
    failing: str = "-"
    """The prompt that fails in the middle."""
    running: int = 0
    most: int = 0
    room: int = 100
    """For those that wait."""
    free: trio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.free = trio.Semaphore(self.count)

    @asynccontextmanager
    async def infer(self, request: InferenceRequest) -> AsyncIterator[Answer]:
        if self.free.statistics().tasks_waiting >= self.room:
            raise Busy("every slot is taken, and too many wait")
        async with self.free, self._serve(request) as answer:
            yield answer

    @asynccontextmanager
    async def _serve(self, request: InferenceRequest) -> AsyncIterator[Answer]:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            assert isinstance(request.prompt, str)
            if not self.is_streamed:
                await trio.sleep(len(request.prompt))
            async with aclosing(self._events(request.prompt, request.choices)) as events:
                yield Answer(PeerId(f"peer of {request.prompt}"), bytes(32), 1, events)
        finally:
            self.running -= 1

    async def _events(self, prompt: str, choices: int) -> AsyncGenerator[AnswerEvent]:
        yield Progress(0, 1)
        for letter in prompt:
            if self.is_streamed:
                await trio.sleep(1)
            if prompt == self.failing:
                raise Failed("the engine died")
            for choice in range(choices):
                yield Chunk(choice, (1,), f"{letter}{choice}")
        length = len(prompt)
        yield Done(stops(choices), Usage(length, length, 1), Timings(0.1 * length, 0, length))


def requests(*prompts: str, **changes: Any) -> list[InferenceRequest]:
    return [
        InferenceRequest("completion", RequestId(prompt), ModelName("stub"), prompt=prompt, **changes)
        for prompt in prompts
    ]


async def read(backend: Slots, asked: Sequence[InferenceRequest]) -> tuple[Answer, dict[int, str], Done]:
    """The answer, the text of each choice, and the end."""
    texts: dict[int, str] = {}
    async with infer_several(backend, asked) as answer:
        async for event in answer.events:
            match event:
                case Chunk():
                    texts[event.choice] = texts.get(event.choice, "") + event.text
                case Done():
                    assert backend.running == 0, "the end comes when all slots are free"
                    return answer, texts, event
    raise AssertionError("no end")


def test_choices_are_numbered_prompt_by_prompt() -> None:
    async def main() -> None:
        answer, texts, done = await read(Slots(), requests("ab", "c", choices=2))
        assert texts == {0: "a0b0", 1: "a1b1", 2: "c0", 3: "c1"}
        assert done.finish_reasons == ("stop",) * 4
        assert done.usage == Usage(3, 3, 2)
        assert done.timings == Timings(0.2, 0, 2)
        assert answer.served_by in ("peer of ab", "peer of c")

    run(main)


@pytest.mark.parametrize("is_streamed", [True, False])
def test_a_list_longer_than_there_are_slots_is_served_as_slots_become_free(is_streamed: bool) -> None:
    async def main() -> None:
        backend = Slots(count=2, is_streamed=is_streamed)
        _, texts, _ = await read(backend, requests(*"abcdefghij"))
        assert "".join(texts[choice] for choice in range(10)) == "a0b0c0d0e0f0g0h0i0j0"
        assert backend.most == 2
        assert trio.current_time() == pytest.approx(5)

    run(main)


def test_a_list_that_finds_no_room_to_wait_is_refused() -> None:
    async def main() -> None:
        backend = Slots(count=1, room=1)
        with pytest.raises(Busy):
            await read(backend, requests("a", "b", "c"))
        assert backend.running == 0

    run(main)


def test_the_first_to_fail_ends_all() -> None:
    async def main() -> None:
        backend = Slots(count=3, failing="b")
        with pytest.raises(Failed, match="the engine died"):
            await read(backend, requests("aaa", "b", "ccc"))
        assert backend.running == 0
        assert trio.current_time() == pytest.approx(1)

    run(main)


def test_leaving_early_cancels_all() -> None:
    async def main() -> None:
        backend = Slots()
        async with infer_several(backend, requests("aaa", "bbb", "ccc")) as answer:
            await anext(answer.events)
            assert backend.running == 2
        assert backend.running == 0

    run(main)


class _Liar(Slots):
    async def _events(self, prompt: str, choices: int) -> AsyncGenerator[AnswerEvent]:
        if prompt == "more":
            yield Chunk(choices, (1,), "x")
        if prompt != "endless":
            yield Done(stops(choices + 1), Usage(1, 1), Timings())


@pytest.mark.parametrize("prompt", ["more", "end", "endless"])
def test_an_answer_of_other_choices_is_none(prompt: str) -> None:
    async def main() -> None:
        with pytest.raises(Misbehaved):
            await read(_Liar(), requests(prompt, prompt))

    run(main)


def complete(bench: Bench, prompt: Any, **body: Any) -> Reply:
    return bench.call("POST", "/v1/completions", {"model": "stub", "prompt": prompt, **body})


@pytest.mark.parametrize(
    ("prompt", "sent"), [(["one", "two"], {"one", "two"}), ([[1], [2, 3]], {(1,), (2, 3)})]
)
def test_each_prompt_is_a_request_of_its_own(bench: Bench, prompt: Any, sent: set[Any]) -> None:
    reply = complete(bench, prompt, n=1)
    body = reply.json()
    Completion.model_validate(body, strict=True)
    assert [(each["index"], each["text"]) for each in body["choices"]] == [(0, "Paris"), (1, "Paris")]
    assert body["usage"]["total_tokens"] == 14
    assert {request.prompt for request in bench.backend.requests} == sent
    ids = {request.request_id for request in bench.backend.requests}
    whole = reply.headers["x-request-id"]
    assert ids == {f"{whole}.0", f"{whole}.1"}
    assert body["id"] == f"cmpl-{whole}"


def test_the_pieces_of_several_prompts_come_as_they_are_made(bench: Bench) -> None:
    *events, end = complete(bench, ["one", "two"], stream=True).events()
    assert end == "[DONE]"
    texts = ["", ""]
    for event in events:
        [choice] = event["choices"]
        texts[choice["index"]] += choice["text"]
    assert texts == ["Paris", "Paris"]
    reasons = [event["choices"][0]["finish_reason"] for event in events]
    assert reasons.count("stop") == 2


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_of_any_prompt_has_its_own_status(new_bench: Callable[..., Bench], stream: bool) -> None:
    error: FederationError = Busy("every slot is taken")
    assert complete(new_bench(on_enter=error), ["one", "two"], stream=stream).status == 429
    script = [Failed("the engine died")]
    assert complete(new_bench(script=script), ["one", "two"], stream=stream).status == 502
    cut = complete(new_bench(script=words("Par")[:-1]), ["one", "two"], stream=stream)
    assert b"stopped before its end" in cut.body
