"""A founder and a joiner whose token says only where nobody is. For a network of its own."""

import sys
from pathlib import Path

from node.home import Home
from node.place import found, node_identity
from p2p.peer import PeerAddress
from tests.real.swarm_processes import NodeProcesses, is_online

OUR_ADDRESS = "/ip4/10.9.9.1/tcp/0"
NOBODY_THERE = "/ip4/10.9.9.1/tcp/1"

with NodeProcesses(Path(sys.argv[1])) as nodes:
    home = Home(Path(sys.argv[1]) / "founder")
    home.create()
    place = found(home)
    assert place.invite is not None
    token = place.token(place.invite, [PeerAddress(node_identity(home).peer_id, NOBODY_THERE)]).encode()
    network = ("--listen", OUR_ADDRESS)
    founder = nodes.run("start", "founder", network=network)
    joiner = nodes.run("join", "joiner", token=token, network=network)
    for node in (founder, joiner):
        node.wait_until(lambda rows: is_online(rows, "founder", "joiner"))
        print(node.name, "sees both")
