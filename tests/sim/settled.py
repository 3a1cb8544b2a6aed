"""A settled swarm to begin with: everybody knows everybody, and all is quiet.

To let a thousand nodes find each other takes minutes of computing, and is what one
scenario measures (`a newcomer`), not what every other one should wait for. So the state
they end up in is put together here: the replicas equal, all believed alive, and each node
linked to about as many random others as its view holds.

Reaches into the cores, which have no such short cut. `test_world.py` compares the result with
a swarm that got there by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from ledger import liveness_events as liveness
from ledger import spread as spreading
from ledger.rumour import Claim, Status
from ledger.state import LedgerState
from p2p.known_peer import Origin
from p2p.peer import PeerId
from tests.sim.faults import Faults
from tests.sim.node import Node, Settings
from tests.sim.wire import Connection, Pipe
from tests.sim.world import World

ADDRESSES_KNOWN = 200
"""Of random others. A real node comes to know all; these are enough to dial from, and cheaper."""

_ALIVE = Claim(0, Status.ALIVE)


def settled(
    size: int, seed: int, faults: Faults | None = None, settings: Settings | None = None, *, run: float = 10.0
) -> World:
    """A swarm of `size` that found itself long ago. It has run for `run` seconds with no fault but delay."""
    wanted = faults or Faults()
    loss, wanted.loss = wanted.loss, 0.0
    world = World(size, seed, wanted, settings, is_begun=False)
    _equal_replicas(world)
    _equal_beliefs(world)
    for one, other in _random_graph(world):
        _link(world.members[one], world.members[other])
    for node in world:
        world.timeline.at(world.rng.random(), _begin, node)
    world.run(run)
    wanted.loss = loss
    return world


def _begin(node: Node, _: None) -> None:
    node.detect(liveness.TimerFired())
    node.tell_spread(spreading.TimerFired())
    node.news_at = node.now + 10.0 * node.rng.random()
    node.attend_door()


def _equal_replicas(world: World) -> None:
    nodes = world.members
    for node in nodes:
        node.replica.begin()
        node.put_record()
    if not world.settings.has_ledger:
        _know(nodes)
        return
    written = [change.entry for node in nodes for change in node.replica.take_changes()]
    model = LedgerState(nodes[0].peer, world.proofs, world.settings.limits)
    for entry in written:
        model.apply(entry)
    root = model.root_digest()
    for node in nodes:
        _copy(model, node.replica.state)
        assert node.replica.state.root_digest() == root
    if world.witness is not None:
        world.witness.begins_with(written)
    _know(nodes)


def _copy(model: LedgerState, state: LedgerState) -> None:
    """Make `state` hold what `model` holds, and share nothing that changes."""
    state._owned.clear()
    state._shelves.clear()
    state._buckets = [{} for _ in state._buckets]
    for invite, shelf in model._shelves.items():
        state._shelves[invite] = type(shelf)(shelf.owners, shelf.size)
    shelves = {id(shelf): state._shelves[invite] for invite, shelf in model._shelves.items()}
    for owner, owned in model._owned.items():
        copy = type(owned)(
            owned.bucket,
            shelves[id(owned.shelf)],
            dict(owned.entries),
            owned.size,
            owned.digest,
            owned.floor,
            dict(owned.floors),
        )
        state._owned[owner] = state._buckets[owned.bucket][owner] = copy
    state._size = model._size
    state._bucket_digests = list(model._bucket_digests)
    state._root_digest = model._root_digest


def _know(nodes: list[Node]) -> None:
    everybody = {node.peer for node in nodes}
    addresses = [node.address for node in nodes]
    for node in nodes:
        node.known = set(everybody)
        few = node.rng.sample(addresses, min(len(addresses), ADDRESSES_KNOWN))
        node.book.add(few, Origin.SIGNED, node.now)


def _equal_beliefs(world: World) -> None:
    everybody = frozenset(node.peer for node in world.members)
    buckets: list[int] | None = None
    for node in world.members:
        beliefs = node.detector.beliefs
        beliefs.know(everybody, 0.0)
        if buckets is None:
            for peer, health in beliefs.peers.items():
                beliefs.digest.change(peer, health.claim, _ALIVE)
            buckets = beliefs.digest._buckets
        for health in beliefs.peers.values():
            health.claim = _ALIVE
        beliefs._alive = len(beliefs.peers)
        beliefs.digest._buckets = list(buckets)


def _link(one: Node, other: Node) -> None:
    connection = Connection(one, other)
    for pipe in (connection.forth, connection.back):
        node, peer = pipe.source, pipe.target.peer
        _admit(node, pipe)
        node.detector.beliefs.link(peer)
        pipe.is_linked = True
    for pipe in (connection.forth, connection.back):
        pipe.source.tell_spread(spreading.LinkOpened(pipe.target.peer))


def _admit(node: Node, pipe: Pipe) -> None:
    """`Node.admit`, long ago: told of all, and over with."""
    peer: PeerId = pipe.target.peer
    node.pipes[peer] = pipe
    node.book.add([pipe.target.address], Origin.LEARNED, node.now)
    node.book.connected(peer)
    node.book.admitted(peer, node.now)
    node.neighbours.came(peer, node.now, is_chosen=pipe is pipe.connection.forth)


def _random_graph(world: World) -> Iterator[tuple[int, int]]:
    """Who is linked to whom: all to all, or each to almost as many as its view holds, by chance.

    Feelers add links until views are full, so full ones are what a swarm ends up with.
    """
    size, most = len(world.members), world.settings.neighbours.max
    if size <= most + 1:
        yield from ((one, other) for one in range(size) for other in range(one))
        return
    rng = Random(world.rng.random())
    room = [most] * size
    seen: set[tuple[int, int]] = set()
    stubs = [number for number in range(size) for _ in range(most)]
    rng.shuffle(stubs)
    for one, other in zip(stubs[::2], stubs[1::2], strict=False):
        pair = (max(one, other), min(one, other))
        if one != other and pair not in seen and room[one] and room[other]:
            seen.add(pair)
            room[one] -= 1
            room[other] -= 1
            yield pair
