"""Ledgers of whole nodes on a memory network, under a clock that jumps."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ledger.entry import sign_entry
from ledger.records import LEAVE_KEY, LeaveRecord
from ledger.spread import SpreadConfig
from ledger.standing_streams import RETRY_DELAY_MAX
from ledger.state import BUCKETS
from ledger.sync_messages import (
    FRAME_SIZE_MAX,
    LEDGER_PROTOCOL,
    Entries,
    News,
    Owners,
    Root,
    decode_message_untrusted,
    encode_message,
)
from ledger.version import Version
from p2p.frame_stream import FrameStream
from p2p.framing import encode_frame
from p2p.memory_link import LinkQuality
from p2p.memory_network import MemoryHub
from tests.ledger.replicas import AUTHORS, IDENTITIES, Replica, are_equal, replicas, until
from tests.mock_time import run

SPREAD = SpreadConfig()
ROUND_TRIPS = 0.05
"""Seconds: dozens of round trips on the default cable, and far from the next round."""


async def read_all(stream: trio.abc.ReceiveStream) -> None:
    while await stream.receive_some():
        pass


async def settle(among: list[Replica], pairs: Iterable[tuple[Replica, Replica]] | None = None) -> None:
    """Everybody meets everybody, or those in `pairs` each other; then all know all that there is."""
    for one, other in pairs or itertools.combinations(among, 2):
        await one.meet(other)
    for node in among:
        node.ledger.put("node", {"name": node.peer})
    await until(lambda: are_equal(among), among)


def test_a_newcomer_knows_everything_at_once() -> None:
    async def main() -> None:
        async with replicas(MemoryHub(), 2) as (old, new):
            for number in range(200):
                old.ledger.put(f"model/{number}", {"x": number})
            new.ledger.put("node", {})
            await new.meet(old)
            with trio.fail_after(ROUND_TRIPS):
                await until(lambda: are_equal([old, new]), [old, new])
            assert len(list(new.ledger.entries())) == 203  # Both say which process they are, too.

    run(main)


def test_a_write_is_everywhere_within_a_few_round_trips() -> None:
    async def main() -> None:
        async with replicas(MemoryHub(), 4) as nodes:
            await settle(nodes)
            nodes[2].ledger.put("node", {"name": "attic"})
            with trio.fail_after(ROUND_TRIPS):
                await until(lambda: are_equal(nodes), nodes)

    run(main)


def test_a_write_reaches_those_its_writer_is_not_connected_to() -> None:
    async def main() -> None:
        async with replicas(MemoryHub(), 5) as nodes:
            await settle(nodes, itertools.pairwise(nodes))
            nodes[0].ledger.put("node", {"name": "attic"})
            with trio.fail_after(ROUND_TRIPS):
                await until(lambda: are_equal(nodes), nodes)

    run(main)


def test_parted_replicas_agree_after_they_meet_again() -> None:
    async def main() -> None:
        hub = MemoryHub()
        async with replicas(hub, 5) as nodes:
            await settle(nodes)
            left, right = nodes[:2], nodes[2:]
            hub.partition([node.peer for node in left], [node.peer for node in right])
            for number, node in enumerate(nodes):
                node.ledger.put("node", {"name": f"alone {number}"})
                node.ledger.delete("node") if number % 2 else node.ledger.put("other", {})
            await until(lambda: are_equal(left) and are_equal(right), nodes)
            assert not are_equal(nodes)
            hub.heal()
            with trio.fail_after(10):
                await until(lambda: are_equal(nodes), nodes)

    run(main)


def test_a_link_is_made_again_after_the_connection_was_lost() -> None:
    async def main() -> None:
        async with replicas(MemoryHub(), 2) as (one, other):
            await settle([one, other])
            await one.network.disconnect(other.peer)
            one.ledger.put("node", {"name": "written while apart"})
            await one.meet(other)
            with trio.fail_after(ROUND_TRIPS):
                await until(lambda: are_equal([one, other]), [one, other])

    run(main)


def test_a_bad_cable_delays_and_loses_nothing() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=3, quality=LinkQuality(latency=0.02, jitter=0.03, loss=0.05))
        async with replicas(hub, 8) as nodes:
            await settle(nodes)
            for number in range(20):
                nodes[number % 8].ledger.put(f"model/{number % 3}", {"x": number})
            with trio.fail_after(5):
                await until(lambda: are_equal(nodes), nodes)

    run(main)


def test_what_no_push_delivered_a_round_finds() -> None:
    async def main() -> None:
        async with replicas(MemoryHub(), 3) as nodes:
            await settle(nodes)
            unpushed = sign_entry(AUTHORS[5], "node", Version(1, 1), b"\x80")
            nodes[0].ledger.state.apply(unpushed)
            with trio.fail_after(3 * SPREAD.round_interval):
                await until(lambda: are_equal(nodes), nodes)

    run(main)


def test_a_peer_that_speaks_the_ledger_protocol_late_is_asked_again() -> None:
    async def main() -> None:
        hub = MemoryHub()
        async with replicas(hub, 1) as (early,), hub.network(IDENTITIES[1].peer_id) as network:
            await network.dial(early.network.listen_addresses[0])
            early.ledger.put("node", {})
            await trio.sleep(RETRY_DELAY_MAX)
            late = Replica(AUTHORS[1], network)
            with trio.fail_after(RETRY_DELAY_MAX):
                await until(lambda: are_equal([early, late]), [early, late])

    run(main)


def test_a_replica_that_stops_leaves_no_stream() -> None:
    async def main() -> None:
        async with replicas(MemoryHub(), 3) as nodes:
            await settle(nodes)
            assert all(node.replicator._links for node in nodes)
        assert not any(node.replicator._links for node in nodes)

    run(main)


FORGED = sign_entry(AUTHORS[0], "node", Version(1, 99), b"\x80").encoded[:-1] + b"\0"


@pytest.mark.parametrize(
    "lie",
    [
        encode_frame(encode_message(Entries((FORGED,))), FRAME_SIZE_MAX),
        encode_frame(encode_message(Entries((b"\2 no entry",))), FRAME_SIZE_MAX),
        encode_frame({"kind": "later"}, FRAME_SIZE_MAX),
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\xc1",
    ],
    ids=["forged entry", "no entry", "unknown kind", "frame too large", "no msgpack"],
)
def test_a_peer_that_breaks_the_protocol_loses_its_stream_and_nobody_notices(
    lie: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        hub = MemoryHub()
        async with replicas(hub, 3) as nodes, hub.network(IDENTITIES[4].peer_id) as liar:
            await settle(nodes)
            await liar.dial(nodes[1].network.listen_addresses[0])
            stream = await liar.open_stream(nodes[1].peer, LEDGER_PROTOCOL)
            await stream.send_all(lie)
            with trio.fail_after(ROUND_TRIPS), pytest.raises(trio.BrokenResourceError):
                await read_all(stream)
            nodes[0].ledger.put("node", {"name": "attic"})
            with trio.fail_after(ROUND_TRIPS):
                await until(lambda: are_equal(nodes), nodes)

    run(main)
    (warning,) = [record for record in caplog.records if record.name == "ledger.standing_streams"]
    assert IDENTITIES[4].peer_id in warning.getMessage()


def test_a_peer_that_asks_and_never_reads_holds_up_nobody() -> None:
    async def main() -> None:
        hub = MemoryHub()
        async with replicas(hub, 2) as nodes, hub.network(IDENTITIES[4].peer_id) as rude:
            for number in range(200):
                nodes[0].ledger.put(f"model/{number}", {"x": bytes(500)})
            await settle(nodes)
            await rude.dial(nodes[1].network.listen_addresses[0])
            frames = FrameStream(await rude.open_stream(nodes[1].peer, LEDGER_PROTOCOL), FRAME_SIZE_MAX)
            for _ in range(1000):
                await frames.send(encode_message(Root(bytes(16))))
            nodes[0].ledger.put("node", {"name": "attic"})
            with trio.fail_after(ROUND_TRIPS):
                await until(lambda: are_equal(nodes), nodes)

    run(main)


def test_a_frame_full_of_entries_lets_others_run_in_between() -> None:
    async def main() -> None:
        async with replicas(MemoryHub(), 2) as (one, other):
            await settle([one, other])
            entries = [sign_entry(AUTHORS[5], f"{number}", Version(1, number), b"") for number in range(500)]
            frames = FrameStream(await other.network.open_stream(one.peer, LEDGER_PROTOCOL), FRAME_SIZE_MAX)
            with one.ledger.subscribe() as changes:
                await frames.send(encode_message(Entries(tuple(entry.encoded for entry in entries))))
                await anext(changes)
                assert len(one.ledger.state.entries_of(AUTHORS[5].peer)) < len(entries)

    run(main)


def knows_last_words(node: Replica, leaver: Replica) -> bool:
    return node.ledger.leave_record(leaver.peer) == LeaveRecord("attic")


def test_last_words_are_sent_to_every_peer_and_not_to_a_few() -> None:
    async def main() -> None:
        async with replicas(MemoryHub(), SPREAD.push_peers + 4) as nodes:
            leaver, *others = nodes
            # Nobody who could pass it on.
            await settle(nodes, [(leaver, other) for other in others])
            leaver.ledger.leave(LeaveRecord("attic"))
            # Less than until the next round, which would mend what a push left out.
            with trio.fail_after(SPREAD.round_interval / 2):
                await leaver.replicator.say_last_word(LEAVE_KEY)
                await until(lambda: all(knows_last_words(node, leaver) for node in others), others)

    run(main)


def test_two_who_say_their_last_words_at_once_both_end() -> None:
    async def main() -> None:
        async with replicas(MemoryHub(), 2) as nodes:
            await settle(nodes)
            with trio.fail_after(ROUND_TRIPS):
                async with trio.open_nursery() as nursery:
                    for node in nodes:
                        nursery.start_soon(node.replicator.say_last_word, "node")

    run(main)


def test_a_last_word_that_is_said_has_been_taken_in() -> None:
    """Whatever overtakes it on another stream: a goodbye that ends this one loses nothing."""

    async def main() -> None:
        async with replicas(MemoryHub(), 4) as nodes:
            await settle(nodes)
            leaver, *others = nodes
            leaver.ledger.put("model/m", {"size": 1})
            leaver.ledger.leave(LeaveRecord("attic"))
            await leaver.replicator.say_last_word(LEAVE_KEY)
            for node in others:
                assert node.ledger.state.owner_digest(leaver.peer) == leaver.ledger.state.owner_digest(
                    leaver.peer
                )

    run(main)


async def read_until_news(frames: FrameStream) -> None:
    async with frames:
        while frame := await frames.receive():
            if isinstance(decode_message_untrusted(frame), News):
                return


def test_last_words_wait_for_no_round() -> None:
    async def main() -> None:
        hub = MemoryHub()
        async with replicas(hub, 1) as (leaver,), hub.network(IDENTITIES[4].peer_id) as newcomer:
            leaver.ledger.leave(LeaveRecord("attic"))
            for number, owner in itertools.product(range(30), AUTHORS[5:10]):
                leaver.ledger.state.apply(sign_entry(owner, f"{number}", Version(1, number), bytes(15_000)))
            await newcomer.dial(leaver.network.listen_addresses[0])
            frames = FrameStream(await newcomer.open_stream(leaver.peer, LEDGER_PROTOCOL), FRAME_SIZE_MAX)
            await frames.send(encode_message(Owners(tuple(range(BUCKETS)), {})))
            await trio.sleep(ROUND_TRIPS)
            with trio.fail_after(60):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(leaver.replicator.say_last_word, LEAVE_KEY)
                    await read_until_news(frames)

    run(main)


def test_a_peer_that_reads_nothing_holds_up_last_words_until_it_goes() -> None:
    async def main() -> None:
        hub = MemoryHub()
        async with replicas(hub, 3) as nodes:
            await settle(nodes)
            leaver, frozen, _ = nodes
            hub.freeze(frozen.peer)
            for number in range(100):  # More than a stream holds unread.
                leaver.ledger.put("model/m", {"x": bytes(4000), "number": number})
                await wait_all_tasks_blocked()
            leaver.ledger.put("node", {"name": "cellar"})
            with trio.move_on_after(60) as patience:
                await leaver.replicator.say_last_word("node")
            assert patience.cancelled_caught
            async with trio.open_nursery() as nursery:
                nursery.start_soon(leaver.replicator.say_last_word, "node")
                await wait_all_tasks_blocked()
                await leaver.network.disconnect(frozen.peer)

    run(main)
