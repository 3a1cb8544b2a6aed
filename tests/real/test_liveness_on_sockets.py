"""Real processes that die and freeze, as their peers see it over real sockets."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from ledger.rumour import Status
from p2p.libp2p_network import Libp2pNetwork
from p2p.membership import found_swarm, join_swarm
from p2p.secret import derive_psk
from tests.ledger.replicas import IDENTITIES
from tests.ledger.whole_nodes import FOUNDER, WholeNode

pytestmark = pytest.mark.real

ROOT = Path(__file__).parent.parent.parent
START_TIME_MAX = 40.0
"""Two Python processes that import the transport, on a machine that is busy with other tests."""


class Child:
    """A node in another process, as `WholeNode` shows it."""

    def __init__(self, number: int, process: trio.Process) -> None:
        self.peer = IDENTITIES[number].peer_id
        self.process = process


@asynccontextmanager
async def node_and_children(count: int) -> AsyncIterator[tuple[WholeNode, list[Child]]]:
    """A node here, and `count` in processes of their own, all online."""
    founded = found_swarm("home", FOUNDER, IDENTITIES[0].peer_id)
    assert founded.invite is not None
    psk = derive_psk(founded.secret)
    async with (
        Libp2pNetwork.open(IDENTITIES[0], psk, listen=["/ip4/127.0.0.1/tcp/0"]) as network,
        trio.open_nursery() as nursery,
    ):
        node = WholeNode(0, network, founded)
        nursery.start_soon(node.run)
        token = founded.token(founded.invite, network.listen_addresses)
        children = []
        try:
            for number in range(1, count + 1):
                command = [sys.executable, "-m", "tests.real.liveness_child", str(number)]
                process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, cwd=ROOT)
                children.append(Child(number, process))
                assert process.stdin is not None
                membership = join_swarm(token, children[-1].peer)
                await process.stdin.send_all(membership.encode().hex().encode() + b"\n")
            with trio.fail_after(START_TIME_MAX):
                for child in children:
                    await node.sees(child, "online")
            yield node, children
        finally:
            for child in children:
                child.process.kill()
                with trio.CancelScope(shield=True):
                    await child.process.wait()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("count", [1, 2])
def test_a_killed_process_is_not_chosen_after_a_second_and_offline_after_five(count: int) -> None:
    async def main() -> None:
        async with node_and_children(count) as (node, [victim, *others]):
            victim.process.kill()
            with trio.fail_after(1.0):
                await node.sees(victim, "suspect", "offline")
            with trio.fail_after(4.0):
                await node.sees(victim, "offline")
            for other in others:
                assert node.prober.health(other.peer).status is Status.ALIVE

    trio.run(main)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal that stops a process")
@pytest.mark.parametrize("count", [1, 2])
def test_a_stopped_process_is_suspect_after_three_seconds_and_back_two_after_it_goes_on(count: int) -> None:
    async def main() -> None:
        async with node_and_children(count) as (node, [victim, *others]):
            victim.process.send_signal(signal.SIGSTOP)
            with trio.fail_after(3.0):
                await node.sees(victim, "suspect")
            with trio.fail_after(5.0):
                await node.sees(victim, "offline")
            victim.process.send_signal(signal.SIGCONT)
            with trio.fail_after(2.0):
                for child in (victim, *others):
                    await node.sees(child, "online")

    trio.run(main)
