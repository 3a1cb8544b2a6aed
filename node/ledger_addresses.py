"""Where members say they are, in the ledger, passed on to the swarm that dials them.

The ledger knows the addresses of all members, also of those that no neighbour of ours is
connected to: without it, a node of a large swarm could not find whom it is to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ledger.ledger import Ledger
from ledger.records import NODE_KEY
from p2p.hello import ADDRESSES_PER_PEER_MAX, is_multiaddr
from p2p.peer import PeerAddress, PeerId


async def follow_addresses(ledger: Ledger, found: Callable[[Sequence[PeerAddress]], None]) -> None:
    """Call `found` with the addresses of each member, and again when they change, until cancelled."""
    with ledger.subscribe() as changes:
        for peer in ledger.owners():
            found(addresses_of(ledger, peer))
        async for place in changes:
            if place.key == NODE_KEY:
                found(addresses_of(ledger, place.owner))


def addresses_of(ledger: Ledger, peer: PeerId) -> list[PeerAddress]:
    """Where `peer` says it can be dialled; nowhere if it is away, or is ourselves."""
    record = ledger.node_record(peer)
    if peer == ledger.me or record is None or record.presence == "away":
        return []
    told = [text for text in record.addresses[:ADDRESSES_PER_PEER_MAX] if is_multiaddr(text)]
    return [PeerAddress(peer, text) for text in told]
