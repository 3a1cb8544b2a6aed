"""Two members and a stranger on one LAN: prints who found whom. For a network of its own."""

import sys
from collections.abc import Sequence

import trio

from p2p.identity import Identity
from p2p.mdns import find_members
from p2p.peer import PeerAddress, PeerId
from p2p.secret import derive_mdns_service_name

FIRST, SECOND, STRANGER = (Identity(bytes([n]) * 32).peer_id for n in (1, 2, 3))
NAMES = {FIRST: "first", SECOND: "second", STRANGER: "stranger"}
OURS = derive_mdns_service_name(bytes(16))
THEIRS = derive_mdns_service_name(b"x" * 16)


async def member(service_name: str, me: PeerId, nursery: trio.Nursery) -> None:
    def tell(found: Sequence[PeerAddress]) -> None:
        for address in found:
            print(NAMES[me], "found", NAMES[address.peer], address.multiaddr, flush=True)

    own = [PeerAddress(me, "/ip4/127.0.0.1/tcp/1"), PeerAddress(me, "/ip4/10.9.9.1/tcp/4747")]
    nursery.start_soon(find_members, service_name, me, lambda: own, tell)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        for service_name, me in ((OURS, FIRST), (OURS, SECOND), (THEIRS, STRANGER)):
            await member(service_name, me, nursery)
        # Found in half a second; the rest is for what must not be found.
        await trio.sleep(float(sys.argv[1]))
        nursery.cancel_scope.cancel()


trio.run(main)
