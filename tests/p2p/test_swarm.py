"""Members find each other by whatever they have, come back by themselves, and keep others out."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import pairwise

import pytest
import trio
import trio.testing

from p2p import hello
from p2p.admission_config import AdmissionConfig
from p2p.errors import Unreachable
from p2p.frame_stream import FrameStream
from p2p.framing import encode_frame
from p2p.hello import Bye, from_wire_untrusted, to_wire
from p2p.known_peer import Origin
from p2p.membership import SwarmMembership, join_swarm
from p2p.memory_link import LinkQuality
from p2p.memory_network import MemoryHub
from p2p.network import PeerStream
from p2p.peer import PeerAddress
from p2p.peer_events import PeerAdmitted, PeerLost
from p2p.swarm import WAITED_DIAL_TIME
from tests.mock_time import run
from tests.p2p.people import ALICE, BOB, CAROL, DAVE, identity
from tests.p2p.small_swarm import ECHO, SECRET, UNIX_TIME, node, swarm_on, token, until


def hub_of(seed: int = 1) -> MemoryHub:
    return MemoryHub(seed=seed, quality=LinkQuality(latency=0.005))


async def echoes(stream: PeerStream) -> bool:
    await stream.send_all(b"hello")
    return await stream.receive_some(64) == b"hello"


def test_two_members_find_each_other_by_the_token() -> None:
    async def main() -> None:
        hub = hub_of()
        async with node(hub, ALICE) as alice, node(hub, BOB, token(alice.address)) as bob:
            took = await until(lambda: alice.sees(BOB) and bob.sees(ALICE), within=5)
            assert took < 0.5
            assert bob.swarm.peers()[ALICE.peer_id].role == "admin"
            assert alice.swarm.peers()[BOB.peer_id].role == "worker"
            assert await echoes(await bob.swarm.open_stream(ALICE.peer_id, ECHO))
            assert await echoes(await alice.swarm.open_stream(BOB.peer_id, ECHO))

    run(main)


def test_members_learn_of_each_other_from_others() -> None:
    async def main() -> None:
        hub = hub_of()
        async with AsyncExitStack() as stack:
            alice = await stack.enter_async_context(node(hub, ALICE))
            bob = await stack.enter_async_context(node(hub, BOB, token(alice.address)))
            carol = await stack.enter_async_context(node(hub, CAROL, token(bob.address)))
            dave = await stack.enter_async_context(node(hub, DAVE, token(carol.address)))
            await until(lambda: alice.sees(BOB, CAROL, DAVE) and dave.sees(ALICE, BOB, CAROL), within=5)
            await trio.sleep(60)
            # Nothing was lost on the way, though several heard of several at the same moment.
            for member in (alice, bob, carol, dave):
                assert len(member.events) == 3
                assert all(isinstance(event, PeerAdmitted) for event in member.events)

    run(main)


@pytest.mark.parametrize("lead", [0.0, 0.001, 0.009, 0.02])
def test_of_two_connections_that_cross_one_is_left_and_nobody_was_lost(lead: float) -> None:
    async def main() -> None:
        hub = hub_of()
        async with node(hub, ALICE, token()) as alice, node(hub, BOB, token()) as bob:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bob.network.dial, alice.address)
                await trio.sleep(lead)
                nursery.start_soon(alice.network.dial, bob.address)
            await trio.sleep(5)
            assert alice.events == [PeerAdmitted(BOB.peer_id)]
            assert bob.events == [PeerAdmitted(ALICE.peer_id)]
            for here, peer in ((alice, BOB), (bob, ALICE)):
                assert len(here.network._table.all_of(peer.peer_id)) == 1

    run(main)


def test_a_node_that_comes_up_first_joins_when_its_bootstrap_peer_appears() -> None:
    async def main() -> None:
        hub = hub_of()
        later = PeerAddress(ALICE.peer_id, "/memory/later")
        async with node(hub, BOB, token(later)) as bob:
            await trio.sleep(3600)
            assert bob.sees()
            async with node(hub, ALICE, multiaddr=later.multiaddr) as alice:
                await until(lambda: bob.sees(ALICE) and alice.sees(BOB), within=61)

    run(main)


def test_a_killed_peer_is_lost_at_once_and_unannounced_and_comes_back() -> None:
    async def main() -> None:
        hub = hub_of()
        async with node(hub, ALICE) as alice:
            async with node(hub, BOB, token(alice.address)) as bob:
                await until(lambda: alice.sees(BOB), within=5)
                kept = bob.swarm.known_addresses()
                hub.kill(BOB.peer_id)
                assert await until(alice.sees, within=5) < 0.05
                lost = alice.events[-1]
                assert isinstance(lost, PeerLost)
                assert not lost.announced
            async with node(hub, BOB, token(), boot_id="second", kept=kept) as again:
                await until(lambda: alice.sees(BOB) and again.sees(ALICE), within=2)
                assert alice.swarm.peers()[BOB.peer_id].boot_id == "second"

    run(main)


def test_a_goodbye_is_announced_to_everybody_and_nobody_comes_back_in() -> None:
    async def main() -> None:
        hub = hub_of()
        async with node(hub, ALICE) as alice, node(hub, BOB, token(alice.address)) as bob:
            await until(lambda: alice.sees(BOB), within=5)
            start = trio.current_time()
            await bob.swarm.say_bye(hello.AWAY)
            assert trio.current_time() - start < 0.2
            assert alice.events[-1] == PeerLost(
                BOB.peer_id, announced=True, reason=hello.AWAY, is_leaving=True
            )
            await trio.sleep(120)
            assert alice.sees()
            assert bob.sees()

    run(main)


def test_a_goodbye_to_a_frozen_peer_takes_a_bounded_time() -> None:
    async def main() -> None:
        hub = hub_of()
        async with node(hub, ALICE) as alice, node(hub, BOB, token(alice.address)) as bob:
            await until(lambda: alice.sees(BOB), within=5)
            hub.freeze(ALICE.peer_id)
            with trio.fail_after(2.5):
                await bob.swarm.say_bye(hello.AWAY)

    run(main)


def test_a_partition_heals_by_itself() -> None:
    async def main() -> None:
        hub = hub_of()
        async with node(hub, ALICE) as alice, node(hub, BOB, token(alice.address)) as bob:
            await until(lambda: alice.sees(BOB), within=5)
            hub.partition([ALICE.peer_id], [BOB.peer_id])
            # What each end's TCP does, once nothing it sent was acknowledged for long enough.
            await alice.network.disconnect(BOB.peer_id)
            await bob.network.disconnect(ALICE.peer_id)
            await until(lambda: alice.sees() and bob.sees(), within=2)
            await trio.sleep(300)
            hub.heal()
            await until(lambda: alice.sees(BOB) and bob.sees(ALICE), within=75)

    run(main)


def test_links_that_lose_dials_do_not_keep_anybody_out() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=5, quality=LinkQuality(latency=0.02, dial_loss=0.5))
        async with AsyncExitStack() as stack:
            alice = await stack.enter_async_context(node(hub, ALICE))
            others = [
                await stack.enter_async_context(node(hub, who, token(alice.address)))
                for who in (BOB, CAROL, DAVE)
            ]
            await until(lambda: all(len(here.swarm.peers()) == 3 for here in (alice, *others)), within=60)

    run(main)


INTRUDERS: dict[str, SwarmMembership] = {
    "expired": join_swarm(token(expires_at=int(UNIX_TIME) - 3600), BOB.peer_id),
    "of another swarm": join_swarm(token(founder=identity("other founder")), BOB.peer_id),
    "of another node": join_swarm(token(), CAROL.peer_id),
}
INTRUDERS["altered"] = replace(
    INTRUDERS["expired"], credential=replace(INTRUDERS["expired"].credential, signature=bytes(64))
)


@pytest.mark.parametrize("membership", INTRUDERS.values(), ids=INTRUDERS)
def test_a_credential_that_does_not_hold_never_reaches_a_handler(
    membership: SwarmMembership, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        hub = hub_of()
        async with node(hub, ALICE) as alice:
            intruder = replace(membership, bootstrap=(alice.address,))
            async with node(hub, BOB, intruder) as bob:
                streams: list[PeerStream] = []
                for _ in range(100):
                    await trio.sleep(0.003)
                    try:  # Past its own swarm, as a changed program would.
                        streams.append(await bob.network.open_stream(ALICE.peer_id, ECHO))
                    except Unreachable:
                        continue
                assert streams
                for stream in streams:
                    with pytest.raises(trio.BrokenResourceError):
                        await echoes(stream)
                await trio.sleep(1000)
                assert alice.callers == []
                assert alice.events == []
                assert alice.sees()

    run(main)
    told = [text for text in caplog.messages if f"{ALICE.peer_id}: " in text]
    assert any(word in told[0] for word in ("expired", "founder", "another node", "altered"))


def test_a_refused_peer_is_not_pestered() -> None:
    async def main() -> None:
        hub = hub_of()
        async with node(hub, ALICE) as alice:
            refused = replace(INTRUDERS["expired"], bootstrap=(alice.address,))
            async with node(hub, BOB, refused) as bob:
                dials = 0
                dial = bob.network.dial

                async def counted(address: PeerAddress) -> None:
                    nonlocal dials
                    dials += 1
                    await dial(address)

                bob.network.dial = counted  # type: ignore[method-assign]  # to see how often
                await trio.sleep(3600)
                assert 12 <= dials <= 26

    run(main)


def test_a_peer_that_never_says_hello_is_closed_and_nobody_else_notices() -> None:
    async def main() -> None:
        hub = hub_of()
        async with node(hub, ALICE) as alice, node(hub, BOB, token(alice.address)) as bob:
            await until(lambda: alice.sees(BOB), within=5)
            async with hub.network(DAVE.peer_id, SECRET) as silent:
                silent.on_stream(hello.PROTOCOL_ID, wait_for_ever)
                await silent.dial(alice.address)
                stream = await silent.open_stream(ALICE.peer_id, ECHO)
                with trio.fail_after(7), pytest.raises(trio.BrokenResourceError):
                    await echoes(stream)
            await trio.sleep(10)
            assert len(alice.events) == len(bob.events) == 1

    async def wait_for_ever(stream: PeerStream) -> None:
        await trio.sleep_forever()

    run(main)


BROKEN_HELLOS = {
    "too large": (1 << 31).to_bytes(4, "big") + b"x",
    "not msgpack": b"\x00\x00\x00\x03\xc1\xc1\xc1",
    "unknown kind": encode_frame({"kind": 99}, 64),
    "addresses first": encode_frame({"kind": 2, "peers": []}, 64),
    "http": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("data", BROKEN_HELLOS.values(), ids=BROKEN_HELLOS)
def test_bytes_that_are_no_hello_end_that_connection_only(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        hub = hub_of()
        async with node(hub, BOB, token()) as bob, node(hub, CAROL, token(bob.address)) as carol:
            await until(lambda: bob.sees(CAROL), within=5)
            async with hub.network(ALICE.peer_id, SECRET) as rude:
                await rude.dial(bob.address)
                stream = await rude.open_stream(BOB.peer_id, hello.PROTOCOL_ID)
                await stream.send_all(data)
                with trio.fail_after(8):
                    said = FrameStream(stream, hello.FRAME_SIZE_MAX)
                    assert (await said.receive() or {})["kind"] == hello.Kind.HELLO
                    bye = from_wire_untrusted(await said.receive() or {})
                    assert isinstance(bye, Bye)
                    assert f"we did not admit {ALICE.peer_id}: {bye.text}" in caplog.messages
                    await trio.sleep(1.5)
                    with pytest.raises(Unreachable):
                        await rude.open_stream(BOB.peer_id, ECHO)
            assert len(bob.events) == len(carol.events) == 1
            assert await echoes(await carol.swarm.open_stream(BOB.peer_id, ECHO))

    run(main)


def test_a_message_that_cannot_be_sent_ends_its_stream_and_not_the_swarm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        hub = hub_of()
        async with node(hub, ALICE) as alice, node(hub, BOB, token(alice.address)) as bob:
            await until(lambda: alice.sees(BOB), within=5)
            control = max(alice.swarm._controls._streams)
            place = PeerAddress(CAROL.peer_id, "/" + "x" * hello.FRAME_SIZE_MAX)
            alice.swarm._controls.post(control, hello.Addresses((place,)))
            await until(lambda: alice.sees() and bob.sees(), within=1)
            await until(lambda: alice.sees(BOB) and bob.sees(ALICE), within=5)

    run(main)
    assert "cannot be sent" in caplog.text


def test_a_stream_that_comes_before_hello_is_done_waits_for_it() -> None:
    async def main() -> None:
        hub = hub_of()
        async with node(hub, BOB, token()) as bob, hub.network(ALICE.peer_id, SECRET) as early:
            await early.dial(bob.address)
            stream = await early.open_stream(BOB.peer_id, ECHO)
            await stream.send_all(b"hello")
            await trio.sleep(2)
            assert bob.callers == []
            control = await early.open_stream(BOB.peer_id, hello.PROTOCOL_ID)
            said = hello.Hello("early", "0", "b", join_swarm(token(), ALICE.peer_id).credential)
            await control.send_all(encode_frame(to_wire(said), hello.FRAME_SIZE_MAX))
            with trio.fail_after(1):
                assert await stream.receive_some(64) == b"hello"
            assert bob.callers == [ALICE.peer_id]

    run(main)


def test_who_calls_before_the_swarm_runs_is_answered_when_it_does() -> None:
    async def main() -> None:
        hub = hub_of()
        async with hub.network(BOB.peer_id, SECRET) as network, node(hub, ALICE, token()) as alice:
            swarm = swarm_on(network, join_swarm(token(), BOB.peer_id))
            alice.swarm.add_addresses(network.listen_addresses, Origin.NEARBY)
            await trio.sleep(1)
            assert alice.sees()
            async with trio.open_nursery() as nursery:
                await nursery.start(swarm.run)
                await until(lambda: alice.sees(BOB) and ALICE.peer_id in swarm.peers(), within=1)
                nursery.cancel_scope.cancel()

    run(main)


def test_more_streams_than_may_wait_are_reset() -> None:
    async def main() -> None:
        hub = hub_of()
        async with node(hub, BOB, token()) as bob, hub.network(ALICE.peer_id, SECRET) as early:
            await early.dial(bob.address)
            streams = [await early.open_stream(BOB.peer_id, ECHO) for _ in range(20)]
            await trio.sleep(1)
            broken = 0
            for stream in streams:
                with trio.move_on_after(0.1):
                    try:
                        await stream.receive_some(1)
                    except trio.BrokenResourceError:
                        broken += 1
            assert broken == 4

    run(main)


def test_a_peer_that_is_not_admitted_cannot_be_reached() -> None:
    async def main() -> None:
        async with node(hub_of(), ALICE) as alice:
            with pytest.raises(Unreachable):
                await alice.swarm.open_stream(BOB.peer_id, ECHO)

    run(main)


def test_being_told_to_go_is_told_to_a_person(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        hub = hub_of()
        async with node(hub, BOB, token()) as bob, hub.network(ALICE.peer_id, SECRET) as host:
            await host.dial(bob.address)
            control = await host.open_stream(BOB.peer_id, hello.PROTOCOL_ID)
            bye = Bye(hello.REFUSED, "the invite expired 3 h ago")
            await control.send_all(encode_frame(to_wire(bye), hello.FRAME_SIZE_MAX))
            told = f"we were not admitted by {ALICE.peer_id}: the invite expired 3 h ago"
            await until(lambda: told in caplog.messages, within=1)

    run(main)


def test_two_homes_with_one_key_are_noticed(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        hub = hub_of()
        async with (
            node(hub, ALICE) as alice,
            node(hub, BOB, token(alice.address), boot_id="original"),
            node(hub, BOB, token(alice.address), boot_id="copy", multiaddr="/memory/copy"),
        ):
            told = f"two nodes seem to run with the key of {BOB.peer_id}"
            await until(lambda: told in caplog.text, within=60)

    run(main)


def test_two_homes_with_one_key_push_each_other_out_without_haste(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        hub = hub_of()
        async with (
            node(hub, ALICE) as alice,
            node(hub, BOB, token(alice.address), boot_id="original"),
            node(hub, BOB, token(alice.address), boot_id="copy", multiaddr="/memory/copy"),
        ):
            seen: list[str] = []
            for _ in range(600):
                await trio.sleep(1)
                seen += [member.boot_id for member in alice.swarm.peers().values()]
            # Both get in, so that each can meet the entries of the other.
            swaps = sum(one != other for one, other in pairwise(seen))
            assert 600 / 20 < swaps < 600 / AdmissionConfig().swap_interval
            assert len(alice.events) < 8 * swaps

    run(main)


def test_a_subscriber_first_hears_of_everybody_who_is_here() -> None:
    async def main() -> None:
        hub = hub_of()
        async with node(hub, ALICE) as alice, node(hub, BOB, token(alice.address)):
            await until(lambda: alice.sees(BOB), within=5)
            with alice.swarm.subscribe() as events:
                assert await events.receive() == PeerAdmitted(BOB.peer_id)

    run(main)


def test_the_end_of_a_swarm_ends_its_subscribers() -> None:
    async def main() -> None:
        async with node(hub_of(), ALICE) as alice:
            with alice.swarm.subscribe() as events:
                alice.running.cancel()
                with trio.CancelScope(shield=True), pytest.raises(trio.EndOfChannel):
                    await events.receive()

    run(main)


@pytest.mark.parametrize("moment", [0.0, 0.004, 0.012, 0.021, 0.033, 0.047, 0.1, 5.5])
def test_cancelled_at_any_moment_a_swarm_leaves_nothing_behind(moment: float) -> None:
    async def main() -> None:
        hub = hub_of()
        async with node(hub, ALICE) as alice:
            async with node(hub, BOB, token(alice.address)):
                await trio.sleep(moment)
            await trio.sleep(10)
            assert alice.sees()
            assert alice.swarm._controls._streams == {}
            assert alice.swarm._admission._guests == {}
            assert alice.swarm._gate._waiting == {}

    run(main)


@pytest.mark.parametrize("head_start", [0.0, 3.0])
def test_a_silent_place_leaves_a_caller_time_for_the_next(
    head_start: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the silent place is dialled for the caller, or was being dialled already."""

    async def main() -> None:
        hub = hub_of()
        async with node(hub, BOB) as bob, node(hub, ALICE, token(bob.address)) as alice:
            await until(lambda: alice.sees(BOB), within=5)
            dial = alice.network.dial

            async def silent_on_the_vpn(address: PeerAddress) -> None:
                if address.multiaddr.startswith("/ip4/10."):
                    await trio.sleep(10)
                    raise Unreachable("nobody answered")
                await dial(address)

            async with hub.network(CAROL.peer_id, SECRET) as network:
                carol = swarm_on(network, join_swarm(token(), CAROL.peer_id))
                carol.on_stream(ECHO, bob.echo)
                monkeypatch.setattr(alice.network, "dial", silent_on_the_vpn)
                places = [PeerAddress(CAROL.peer_id, "/ip4/10.8.0.5/tcp/1"), *network.listen_addresses]
                alice.swarm.add_addresses(places, Origin.KEPT)
                async with trio.open_nursery() as nursery:
                    await nursery.start(carol.run)
                    await trio.sleep(head_start)
                    with trio.fail_after(WAITED_DIAL_TIME + 1):
                        await alice.swarm.open_stream(CAROL.peer_id, ECHO)
                    nursery.cancel_scope.cancel()

    run(main)


def test_who_came_while_a_caller_was_about_to_wait_is_not_waited_for() -> None:
    async def main() -> None:
        hub = hub_of()
        async with node(hub, BOB) as bob, node(hub, ALICE, token(bob.address)) as alice:
            await until(lambda: alice.sees(BOB), within=5)
            with trio.fail_after(0.1):
                await alice.swarm._reach(BOB.peer_id, ECHO)
            assert (alice.swarm._awaited, alice.swarm._admission.book._sought) == ({}, {})

    run(main)
