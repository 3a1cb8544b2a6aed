"""Members are looked for where they say they are."""

from __future__ import annotations

from collections.abc import Sequence

import trio
from trio.testing import wait_all_tasks_blocked

from ledger.records import LeaveRecord, NodeRecord, Presence
from node.ledger_addresses import follow_addresses
from p2p.peer import PeerAddress, PeerId
from tests.ledger.people import author, open_ledger
from tests.mock_time import run

ME, BOB, CAROL = author(1), author(2), author(3)
HOME = "/ip4/192.168.1.7/tcp/4747"


def node(*addresses: str, presence: Presence = "here") -> NodeRecord:
    return NodeRecord("bob", "worker", "1.2", presence, addresses)


def test_each_member_is_found_where_it_says_and_anew_when_it_moves() -> None:
    async def main() -> None:
        ledger, bob, carol = open_ledger(ME), open_ledger(BOB), open_ledger(CAROL)
        ledger.put_record(node("/ip4/10.0.0.1/tcp/1"))
        found: list[PeerAddress] = []
        left: list[PeerId] = []

        def note(addresses: Sequence[PeerAddress]) -> None:
            found.extend(addresses)

        def hear() -> None:
            for other in (bob, carol):
                for entry in other.state.entries():
                    ledger.receive(entry.encoded, other.me)

        bob.put_record(node(HOME, "no address", "/ip4/1.2.3.4/tcp/1/p2p/else", "/" + "x" * 200))
        hear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow_addresses, ledger, note, left.append)
            await wait_all_tasks_blocked()
            assert found == [PeerAddress(BOB.peer, HOME)]
            carol.put_record(node("/ip4/192.168.1.9/tcp/4747"))
            bob.put_record(node(HOME, presence="away"))
            hear()
            await wait_all_tasks_blocked()
            assert found[1:] == [PeerAddress(CAROL.peer, "/ip4/192.168.1.9/tcp/4747")]
            carol.leave(LeaveRecord("carol"))
            hear()
            await wait_all_tasks_blocked()
            assert (len(found), set(left)) == (2, {CAROL.peer})
            nursery.cancel_scope.cancel()

    run(main)
