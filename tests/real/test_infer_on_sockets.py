"""An answer over real sockets: its worker is a process of its own, and is killed.

Run as a program, this file is that worker: it prints its address, and a line whenever
it has been let go of.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio

from federation.backend import Answer, AnswerEvent, Chunk, InferenceRequest, RequestId
from federation.errors import PeerGone
from federation.infer_client import RemoteBackend
from federation.infer_server import InferServer
from ledger.records import ModelName
from p2p.identity import Identity
from p2p.libp2p_network import Libp2pNetwork
from p2p.peer import PeerAddress, PeerId

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
PSK = bytes(32)
REQUEST = InferenceRequest("completion", RequestId("r"), ModelName("tiny"))
ENOUGH = 20.0
"""Seconds; far more than anything here takes on a busy machine."""


class Counting:
    """A worker that counts until it is let go of."""

    @asynccontextmanager
    async def infer(self, request: InferenceRequest) -> AsyncIterator[Answer]:
        del request
        async with aclosing(self._count()) as events:
            try:
                yield Answer(PeerId("counting"), bytes(32), prompt_tokens=1, events=events)
            finally:
                print("free", flush=True)

    async def _count(self) -> AsyncGenerator[AnswerEvent, None]:
        number = 0
        while True:
            yield Chunk(0, (number,), f"{number} ")
            number += 1
            await trio.lowlevel.checkpoint()


async def serve() -> None:
    async with Libp2pNetwork.open(Identity.generate(), PSK, listen=["/ip4/127.0.0.1/tcp/0"]) as network:
        InferServer(lambda peer: Counting(), lambda model: None).attach(network)
        print(network.listen_addresses[0], flush=True)
        await trio.sleep_forever()


@contextmanager
def worker_process() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    with trio.fail_after(ENOUGH):
        return (await trio.to_thread.run_sync(process.stdout.readline, abandon_on_cancel=True)).strip()


@asynccontextmanager
async def remote_of(process: subprocess.Popen[str]) -> AsyncIterator[RemoteBackend]:
    address = PeerAddress.parse(await line_of(process))
    async with Libp2pNetwork.open(Identity.generate(), PSK) as network:
        await network.dial(address)
        yield RemoteBackend(network, address.peer)


def test_a_killed_worker_ends_the_answer_at_once() -> None:
    async def main() -> None:
        with worker_process() as process, trio.fail_after(ENOUGH):
            async with remote_of(process) as remote, remote.infer(REQUEST) as answer:
                first = await anext(answer.events)
                assert isinstance(first, Chunk)
                assert first.token_ids[0] == 0
                process.kill()
                killed_at = trio.current_time()
                with pytest.raises(PeerGone):
                    await _read_on(answer)
                assert trio.current_time() - killed_at < 1

    trio.run(main)


async def _read_on(answer: Answer) -> None:
    async for _ in answer.events:
        pass


def test_a_front_that_leaves_is_heard_by_the_worker() -> None:
    async def main() -> None:
        with worker_process() as process, trio.fail_after(ENOUGH):
            async with remote_of(process) as remote:
                for _ in range(3):
                    async with remote.infer(REQUEST) as answer:
                        await anext(answer.events)
                    assert await line_of(process) == "free"

    trio.run(main)


if __name__ == "__main__":
    trio.run(serve)
