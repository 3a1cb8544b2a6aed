"""One node in a process of its own, to be killed and frozen: `python -m tests.real.liveness_child NUMBER`.

Its membership comes as hex in the first line of stdin; it ends when stdin does.
"""

from __future__ import annotations

import sys

import trio

from p2p.libp2p_network import Libp2pNetwork
from p2p.membership import SwarmMembership
from p2p.secret import derive_psk
from tests.ledger.replicas import IDENTITIES
from tests.ledger.whole_nodes import WholeNode


async def main() -> None:
    number = int(sys.argv[1])
    stdin = trio.wrap_file(sys.stdin)
    membership = SwarmMembership.decode(bytes.fromhex(await stdin.readline()))
    psk = derive_psk(membership.secret)
    async with (
        Libp2pNetwork.open(IDENTITIES[number], psk, listen=["/ip4/127.0.0.1/tcp/0"]) as network,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(WholeNode(number, network, membership).run)
        async for _ in stdin:
            pass
        nursery.cancel_scope.cancel()


trio.run(main)
