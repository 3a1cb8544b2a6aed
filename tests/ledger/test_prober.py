"""Whole nodes watch over each other, on a memory network under a clock that jumps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest
import trio

from ledger.probe import MODELS_MAX, PROTOCOL_ID
from ledger.records import LeaveRecord, Load, ModelName
from ledger.rumour import Status
from ledger.view import NodeView
from p2p.framing import encode_frame
from p2p.hello import AWAY, LEAVE
from p2p.memory_network import MemoryHub
from tests.ledger.whole_nodes import WholeNode, all_see, until_shown, whole_nodes
from tests.mock_time import run

SIZES = [2, 3, 6]


async def read_all(stream: trio.abc.ReceiveStream) -> None:
    with trio.fail_after(1.0):
        async for _ in stream:
            pass


@pytest.mark.parametrize("size", SIZES)
def test_a_killed_peer_is_not_chosen_after_a_second_and_offline_after_five(size: int) -> None:
    async def main() -> None:
        hub = MemoryHub()
        async with whole_nodes(hub, size) as (victim, *others):
            hub.kill(victim.peer)
            victim.scope.cancel()
            with trio.fail_after(1.0):
                await all_see(others, "suspect", "offline", of=[victim])
            with trio.fail_after(4.0):
                await all_see(others, "offline", of=[victim])
            await all_see(others, "online")
            assert not any(other.row(victim).is_connected for other in others)

    run(main)


def test_a_broken_connection_makes_a_suspect_before_any_probe_could() -> None:
    async def main() -> None:
        hub = MemoryHub()
        async with whole_nodes(hub, 4) as (victim, *others):
            hub.kill(victim.peer)
            victim.scope.cancel()
            with trio.fail_after(0.1):
                await all_see(others, "suspect", of=[victim])

    run(main)


def test_a_machine_that_slept_blames_nobody_for_the_connections_that_broke_meanwhile() -> None:
    async def main() -> None:
        hub = MemoryHub()
        async with whole_nodes(hub, 3) as (sleeper, *others):
            sleeper.asleep += 3600.0
            for other in others:
                sleeper.prober.report_failure(other.peer, "connection reset")
            assert [sleeper.row(other).state for other in others] == ["online", "online"]
            # Awake for longer than it is forgiven, it blames again.
            await trio.sleep(10.0)
            sleeper.prober.report_failure(others[0].peer, "connection reset")
            assert sleeper.row(others[0]).state == "suspect"

    run(main)


@pytest.mark.parametrize("size", SIZES)
def test_a_frozen_peer_is_suspect_after_three_seconds_and_back_two_after_its_thaw(size: int) -> None:
    async def main() -> None:
        hub = MemoryHub()
        async with whole_nodes(hub, size) as (victim, *others):
            hub.freeze(victim.peer)
            with trio.fail_after(3.0):
                await all_see(others, "suspect", of=[victim])
            with trio.fail_after(5.0):
                await all_see(others, "offline", of=[victim])
            await trio.sleep(20)
            hub.thaw(victim.peer)
            with trio.fail_after(2.0):
                await all_see(others, "online")
                await all_see([victim], "online", of=others)

    run(main)


def test_two_halves_find_each_other_again() -> None:
    async def main() -> None:
        hub = MemoryHub()
        async with whole_nodes(hub, 6) as nodes:
            left, right = nodes[:3], nodes[3:]
            hub.partition([node.peer for node in left], [node.peer for node in right])
            with trio.fail_after(12.0):
                await all_see(left, "offline", of=right)
                await all_see(right, "offline", of=left)
            await all_see(left, "online")
            hub.heal()
            with trio.fail_after(5.0):
                await all_see(nodes, "online")

    run(main)


def test_who_says_that_it_goes_is_offline_at_once() -> None:
    async def main() -> None:
        async with whole_nodes(MemoryHub(), 3) as (leaver, *others):
            await leaver.swarm.say_bye(AWAY)
            leaver.scope.cancel()
            with trio.fail_after(0.1):
                await all_see(others, "offline", of=[leaver])

    run(main)


def test_who_left_is_not_listed_and_not_asked_about() -> None:
    async def main() -> None:
        async with whole_nodes(MemoryHub(), 3) as (leaver, *others):
            leaver.ledger.leave(LeaveRecord(leaver.name))
            with trio.fail_after(1.0):
                for other in others:
                    await until_shown(other.view, lambda nodes: len(nodes) == 2)
            await leaver.swarm.say_bye(LEAVE)
            leaver.scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert [other.prober.health(leaver.peer).status for other in others] == [Status.UNKNOWN] * 2

    run(main)


def test_a_node_that_only_drains_stays_there_as_draining() -> None:
    async def main() -> None:
        async with whole_nodes(MemoryHub(), 2) as (drainer, other):
            drainer.say("draining")
            with trio.fail_after(1.0):
                await other.sees(drainer, "draining")
                await drainer.sees(drainer, "draining")

    run(main)


def test_a_reported_failure_counts_before_the_next_choice_and_is_refuted_in_a_round_trip() -> None:
    async def main() -> None:
        async with whole_nodes(MemoryHub(), 3) as (reporter, accused, third):
            reporter.prober.report_failure(accused.peer, "test")
            assert reporter.row(accused).state == "suspect"
            with trio.fail_after(0.1):
                await all_see([reporter, third], "online", of=[accused])

    run(main)


def shows_load(busy: WholeNode, nodes: Sequence[NodeView]) -> bool:
    return any(node.peer == busy.peer and node.loads == busy.loads for node in nodes)


def test_load_rides_on_probes() -> None:
    async def main() -> None:
        hub = MemoryHub()
        async with whole_nodes(hub, 3) as (busy, *others):
            busy.loads = {ModelName("smollm2"): Load(4, 3, 1)}
            with trio.fail_after(2.0):
                for other in others:
                    await until_shown(other.view, partial(shows_load, busy))
            hub.kill(busy.peer)
            busy.scope.cancel()
            await all_see(others, "offline", of=[busy])
            assert [other.prober.loads(busy.peer) for other in others] == [{}, {}]

    run(main)


def test_a_node_knows_how_far_and_how_long_ago_the_others_are() -> None:
    async def main() -> None:
        hub = MemoryHub()
        async with whole_nodes(hub, 2) as (one, other):
            await trio.sleep(10)
            row = one.row(other)
            assert row.is_connected
            assert row.rtt == pytest.approx(2 * hub.quality.latency, rel=0.2)
            assert row.last_seen is not None
            assert row.last_seen < 2.0

    run(main)


@pytest.mark.parametrize("garbage", [b"\xff" * 64, encode_frame({"kind": 99}, 64)])
def test_a_peer_that_breaks_the_protocol_loses_its_stream_and_nobody_else_notices(garbage: bytes) -> None:
    async def main() -> None:
        async with whole_nodes(MemoryHub(), 3) as (breaker, victim, third):
            stream = await breaker.swarm.open_stream(victim.peer, PROTOCOL_ID)
            await stream.send_all(garbage)
            with pytest.raises(trio.BrokenResourceError):
                await read_all(stream)
            assert victim.row(third).state == "online"
            assert third.row(victim).state == "online"
            with trio.fail_after(2.0):
                await all_see([breaker, victim, third], "online")

    run(main)


def test_a_second_stream_of_a_peer_takes_the_place_of_the_first() -> None:
    async def main() -> None:
        async with whole_nodes(MemoryHub(), 2) as (opener, answerer):
            first = await opener.swarm.open_stream(answerer.peer, PROTOCOL_ID)
            async with await opener.swarm.open_stream(answerer.peer, PROTOCOL_ID):
                await read_all(first)

    run(main)


def test_messages_that_a_peer_never_reads_are_dropped_beyond_a_bound() -> None:
    async def main() -> None:
        hub = MemoryHub()
        async with whole_nodes(hub, 2) as (watcher, victim):
            hub.freeze(victim.peer)
            # Large ones, so that the cable is soon full.
            watcher.loads = {ModelName(f"{number:0120}"): Load(4, 3) for number in range(MODELS_MAX)}
            await trio.sleep(120)
            unsent = watcher.prober._links[victim.peer].unsent.statistics()
            assert unsent.current_buffer_used == unsent.max_buffer_size
            hub.thaw(victim.peer)
            with trio.fail_after(2.0):
                await all_see([watcher, victim], "online")

    run(main)


def test_a_sign_of_life_is_asked_for_and_a_frozen_peer_gives_none() -> None:
    async def main() -> None:
        hub = MemoryHub()
        async with whole_nodes(hub, 4) as (asker, frozen, well, _):
            hub.freeze(frozen.peer)
            asked_at = {node.peer: asker.prober.ask(node.peer) for node in (frozen, well)}
            await trio.sleep(0.05)
            assert asker.prober.has_heard(well.peer, asked_at[well.peer])
            assert not asker.prober.has_heard(frozen.peer, asked_at[frozen.peer])
            hub.thaw(frozen.peer)
            await trio.sleep(0.05)
            assert asker.prober.has_heard(frozen.peer, asked_at[frozen.peer])

    run(main)
