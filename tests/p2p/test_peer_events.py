"""A subscriber sees the truth in order, and a slow one costs at most two events per peer."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from p2p.peer import PeerId
from p2p.peer_events import PeerAdmitted, PeerEvent, PeerEvents, PeerLost
from tests.p2p.people import ALICE, BOB

PEERS = (ALICE.peer_id, BOB.peer_id)


async def read_all(events: PeerEvents) -> list[PeerEvent]:
    seen = []
    with trio.move_on_after(1):
        while True:
            seen.append(await events.receive())
    return seen


@given(st.lists(st.tuples(st.sampled_from(PEERS), st.booleans())))
def test_however_slowly_it_reads_a_subscriber_ends_with_the_truth(steps: list[tuple[PeerId, bool]]) -> None:
    async def main() -> None:
        events = PeerEvents()
        present: set[PeerId] = set()
        believed: set[PeerId] = set()
        for peer, does_read in steps:
            events.publish(
                PeerLost(peer, announced=False, reason="") if peer in present else PeerAdmitted(peer)
            )
            present ^= {peer}
            if does_read:
                believed = await follow(events, believed)
        unread = await read_all(events)
        assert len(unread) <= 2 * len(PEERS)
        for event in unread:
            events.publish(event)
        assert await follow(events, believed) == present

    async def follow(events: PeerEvents, believed: set[PeerId]) -> set[PeerId]:
        for event in await read_all(events):
            # Admissions and losses of one peer take turns.
            assert isinstance(event, PeerAdmitted) == (event.peer not in believed)
            believed = believed ^ {event.peer}
        return believed

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_waiting_reader_is_woken_by_an_event_and_by_the_end() -> None:
    events = PeerEvents()
    seen: list[PeerEvent] = []

    async def read() -> None:
        async for event in events:
            seen.append(event)  # noqa: PERF401 - the test looks while it is being filled

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            events.publish(PeerAdmitted(ALICE.peer_id))
            await trio.testing.wait_all_tasks_blocked()
            assert seen == [PeerAdmitted(ALICE.peer_id)]
            events.close()

    trio.run(main)


def test_what_was_published_before_the_end_is_still_read() -> None:
    async def main() -> None:
        events = PeerEvents()
        events.publish(PeerAdmitted(ALICE.peer_id))
        events.close()
        assert await events.receive() == PeerAdmitted(ALICE.peer_id)
        with pytest.raises(trio.EndOfChannel):
            await events.receive()

    trio.run(main)
