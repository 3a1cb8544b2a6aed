"""A peer in a process of its own, to be killed: `python echo_peer.py <private network key as hex>`.

Prints its address, echoes /echo/1, and runs until its standard input ends.
"""

import sys

import trio

from p2p.identity import Identity
from p2p.libp2p_network import Libp2pNetwork
from tests.echo import ECHO, echo


async def main(psk: bytes) -> None:
    async with Libp2pNetwork.open(Identity.generate(), psk, listen=["/ip4/127.0.0.1/tcp/0"]) as network:
        network.on_stream(ECHO, echo)
        print(network.listen_addresses[0], flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


trio.run(main, bytes.fromhex(sys.argv[1]))
