"""Real deaths: a peer in another process is killed or frozen, and we watch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from p2p.identity import Identity
from p2p.libp2p_network import Libp2pNetwork
from p2p.network import Connected, Disconnected
from p2p.peer import PeerAddress
from tests.echo import ECHO

pytestmark = pytest.mark.real

ROOT = Path(__file__).parent.parent.parent
PSK = bytes(range(32))


@asynccontextmanager
async def echo_peer() -> AsyncIterator[tuple[PeerAddress, trio.Process]]:
    run_process = partial(
        trio.run_process,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        check=False,
    )
    async with trio.open_nursery() as nursery:
        script = Path(__file__).with_name("echo_peer.py")
        process: trio.Process = await nursery.start(run_process, [sys.executable, str(script), PSK.hex()])
        assert process.stdout
        line = b""
        while not line.endswith(b"\n"):
            piece = await process.stdout.receive_some()
            assert piece, "the peer did not start"
            line += piece
        yield PeerAddress.parse(line.decode().strip()), process
        process.kill()


def run(test: Callable[[Libp2pNetwork, PeerAddress, trio.Process], Awaitable[None]]) -> None:
    async def main() -> None:
        with trio.fail_after(60):
            async with (
                echo_peer() as (address, process),
                Libp2pNetwork.open(Identity.generate(), PSK) as network,
            ):
                await network.dial(address)
                assert isinstance(await network.events.receive(), Connected)
                await test(network, address, process)

    trio.run(main)


def test_a_killed_peer_is_noticed_at_once() -> None:
    async def test(network: Libp2pNetwork, address: PeerAddress, process: trio.Process) -> None:
        stream = await network.open_stream(address.peer, ECHO)
        await stream.send_all(b"x")
        assert await stream.receive_some() == b"x"
        process.kill()
        # A tenth of this on an idle machine; the promise to people is that it is not chosen after 1 s.
        with trio.fail_after(1):
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
            assert await network.events.receive() == Disconnected(address.peer)

    run(test)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot stop a process and let it go on")
def test_a_frozen_peer_shows_nothing_and_goes_on_where_it_was() -> None:
    async def test(network: Libp2pNetwork, address: PeerAddress, process: trio.Process) -> None:
        stream = await network.open_stream(address.peer, ECHO)
        process.send_signal(signal.SIGSTOP)
        await stream.send_all(b"x")
        # Longer silences are for virtual clocks; this shows what a stopped process looks like at all.
        with trio.move_on_after(1):
            await stream.receive_some()
            raise AssertionError("a frozen peer does not answer")
        process.send_signal(signal.SIGCONT)
        assert await stream.receive_some() == b"x"
        with pytest.raises(trio.WouldBlock):
            network.events.receive_nowait()

    run(test)
