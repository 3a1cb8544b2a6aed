"""Several local backends are one: each name once, and always the same model behind it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from federation.backend import Answer, AnswerEvent, InferenceRequest, ModelInfo, RequestId
from federation.errors import Refused
from ledger.records import Load, ModelName, ModelRecord
from node.attached.together import Together
from p2p.peer import PeerId
from tests.mock_time import run
from tests.node.attached.requests import asking


class Member:
    """The shape of a local backend, with models that only have names."""

    def __init__(self, program: str, *names: str) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.names = [ModelName(name) for name in names]
        self.asked: list[ModelName] = []
        self.drained = trio.Event()
        self.is_running = False
        self._program = program

    def models(self) -> Sequence[ModelInfo]:
        return [ModelInfo(name, "loaded", ("chat",), 0, self._program) for name in self.names]

    def model_records(self) -> list[ModelRecord]:
        return [ModelRecord(name, "loaded", program=self._program) for name in self.names]

    def load(self) -> Mapping[ModelName, Load]:
        return {name: Load(len(self._program), 0) for name in self.names}

    async def drain(self) -> None:
        await self.drained.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.is_running = True
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self.is_running = False

    @asynccontextmanager
    async def infer(self, request: InferenceRequest) -> AsyncIterator[Answer]:
        if request.model not in self.names:
            raise Refused("no_such_model", f"{self._program or 'we'} have no {request.model}")
        self.asked.append(request.model)
        yield Answer(PeerId(self._program), b"", 0, _nothing())


async def _nothing() -> AsyncIterator[AnswerEvent]:
    events: tuple[AnswerEvent, ...] = ()
    for event in events:
        yield event


def for_model(name: str) -> InferenceRequest:
    request = asking()
    return InferenceRequest(request.kind, RequestId("r"), ModelName(name), messages=request.messages)


def test_each_name_is_there_once_and_the_first_member_has_it(caplog: pytest.LogCaptureFixture) -> None:
    own, server = Member("", "b", "c"), Member("Ollama", "a", "b")
    together = Together([own, server])
    assert [(info.name, info.reason) for info in together.models()] == [("a", "Ollama"), ("b", ""), ("c", "")]
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert [(each.name, each.program) for each in together.model_records()] == [
                ("a", "Ollama"),
                ("b", ""),
                ("c", ""),
            ]
    assert [record.getMessage() for record in caplog.records] == [
        "model b is served by this node itself; the one of that name in Ollama is not"
    ]
    assert {name: load.slots_total for name, load in together.load().items()} == {"a": 6, "b": 0, "c": 0}


def test_a_request_goes_to_who_has_its_model() -> None:
    async def main() -> None:
        own, server = Member("", "b"), Member("Ollama", "a", "b")
        together = Together([own, server])
        for name in ("a", "b"):
            async with together.infer(for_model(name)):
                pass
        assert (own.asked, server.asked) == (["b"], ["a"])
        with pytest.raises(Refused, match="we have no z"):
            async with together.infer(for_model("z")):
                pass

    run(main)


def test_all_run_change_and_drain_together() -> None:
    async def main() -> None:
        own, server = Member("", "b"), Member("Ollama", "a")
        together = Together([own, server])
        changes: list[str] = []
        together.on_change = lambda: changes.append("changed")
        async with trio.open_nursery() as nursery:
            await nursery.start(together.run)
            assert [member.is_running for member in (own, server)] == [True, True]
            nursery.cancel_scope.cancel()
        assert [member.is_running for member in (own, server)] == [False, False]
        own.on_change()
        server.on_change()
        assert changes == ["changed", "changed"]

        drained = trio.Event()

        async def drain() -> None:
            await together.drain()
            drained.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain)
            own.drained.set()
            await trio.testing.wait_all_tasks_blocked()
            assert not drained.is_set()
            server.drained.set()
            await drained.wait()

    run(main)
