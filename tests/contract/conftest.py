"""Both networks behind one way to make them, so that one suite holds for both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import pytest
import trio
import trio.testing

from p2p.identity import Identity
from p2p.memory_network import MemoryHub
from p2p.muxed_network import MuxedNetwork

SECRET = b"k" * 32
OTHER_SECRET = b"x" * 32


class World(Protocol):
    """Makes networks that can reach each other."""

    def network(
        self, identity: Identity, secret: bytes = SECRET
    ) -> AbstractAsyncContextManager[MuxedNetwork]: ...


class MemoryWorld:
    def __init__(self) -> None:
        self._hub = MemoryHub(seed=1)

    def network(
        self, identity: Identity, secret: bytes = SECRET
    ) -> AbstractAsyncContextManager[MuxedNetwork]:
        return self._hub.network(identity.peer_id, secret)


class Libp2pWorld:
    def network(
        self, identity: Identity, secret: bytes = SECRET
    ) -> AbstractAsyncContextManager[MuxedNetwork]:
        # Imported where it is used: the tests on memory need not wait for libp2p.
        from p2p.libp2p_network import Libp2pNetwork

        return Libp2pNetwork.open(identity, secret, listen=["/ip4/127.0.0.1/tcp/0"])


class Claim(Protocol):
    """Runs an async test in a world."""

    def __call__(self, test: Callable[[World], Awaitable[None]]) -> None: ...


@pytest.fixture(params=["memory", pytest.param("libp2p", marks=pytest.mark.real)])
def holds(request: pytest.FixtureRequest) -> Claim:
    """Run a test on each network in turn."""

    def run_in_memory(test: Callable[[World], Awaitable[None]]) -> None:
        trio.run(test, MemoryWorld(), clock=trio.testing.MockClock(autojump_threshold=0))

    def run_on_sockets(test: Callable[[World], Awaitable[None]]) -> None:
        async def within_time() -> None:
            with trio.fail_after(30):
                await test(Libp2pWorld())

        trio.run(within_time)

    return run_in_memory if request.param == "memory" else run_on_sockets
