"""Where members say they are, and who of them left, passed on from the ledger to the swarm that dials them.

The ledger knows the addresses of all members, also of those that no neighbour of ours is
connected to: without it, a node of a large swarm could not find whom it is to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ledger.ledger import Ledger
from ledger.records import LEAVE_KEY, NODE_KEY
from p2p.hello import ADDRESSES_PER_PEER_MAX, is_multiaddr
from p2p.peer import PeerAddress, PeerId


async def follow_addresses(
    ledger: Ledger, found: Callable[[Sequence[PeerAddress]], None], left: Callable[[PeerId], None]
) -> None:
    """Call `found` with the addresses of each member, and `left` with each that gave its place up, now and
    when that changes, until cancelled."""
    with ledger.subscribe() as changes:
        for peer in ledger.owners():
            _tell(ledger, peer, found, left)
        async for place in changes:
            if place.key in (NODE_KEY, LEAVE_KEY):
                _tell(ledger, place.owner, found, left)


def _tell(
    ledger: Ledger,
    peer: PeerId,
    found: Callable[[Sequence[PeerAddress]], None],
    left: Callable[[PeerId], None],
) -> None:
    if ledger.leave_record(peer) is not None:
        left(peer)
    else:
        found(addresses_of(ledger, peer))


def addresses_of(ledger: Ledger, peer: PeerId) -> list[PeerAddress]:
    """Where `peer` says it can be dialled; nowhere if it is away, or is ourselves."""
    record = ledger.node_record(peer)
    if peer == ledger.me or record is None or record.presence == "away":
        return []
    told = [text for text in record.addresses[:ADDRESSES_PER_PEER_MAX] if is_multiaddr(text)]
    return [PeerAddress(peer, text) for text in told]
