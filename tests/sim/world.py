"""The simulated world: nodes under one virtual clock, and what befalls them.

    world = World(10, seed)          nobody knows anybody but the first node
    world.run(30)                    half a minute passes
    world.kill(world[3])             its process ends
    world.faults.loss = 0.05         from now on
    world.run(5)
    world.status(one, other)

All chance comes from the seed: the same seed tells the same story, in any process. No
node sees the world's time: each has a monotonic clock that began at another moment, and
none is shown what time of day it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from ledger.entry import Entry, Place
from ledger.errors import BadRecord
from ledger.record_fields import decode_value_untrusted
from ledger.records import NODE_KEY, NodeRecord, decode_record
from ledger.replica import Change
from ledger.rumour import Status
from p2p import hello
from p2p.known_peer import Origin
from p2p.peer import PeerAddress, PeerId
from tests.sim.faults import Faults
from tests.sim.network import Network
from tests.sim.node import Node, Settings
from tests.sim.people import SharedProofs, member
from tests.sim.timeline import Timeline

if TYPE_CHECKING:
    from tests.sim.wire import Pipe
    from tests.sim.witness import Witness

LAST_WORDS = 0.25
"""Seconds from saying in the ledger that a node goes until it says so in person. The program waits until
its streams took the word, a second at most: long enough for it to arrive, or to be lost."""

UPTIME_MAX = 2**17
"""Seconds by which the machines' monotonic clocks differ: a day and a half."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One change of mind."""

    at: float
    observer: PeerId
    peer: PeerId
    status: Status


class World:
    """`size` nodes of one swarm, and room for more."""

    def __init__(
        self,
        size: int,
        seed: int,
        faults: Faults | None = None,
        settings: Settings | None = None,
        *,
        is_begun: bool = True,
    ) -> None:
        """`is_begun`: the nodes start within the first second, and know where the first one is."""
        self.seed = seed
        self.faults = faults or Faults()
        self.settings = settings or Settings()
        self.rng = Random(seed)
        self.timeline = Timeline()
        self.proofs = SharedProofs()
        self._addresses: dict[bytes, list[PeerAddress]] = {}
        self.nodes: dict[PeerId, Node] = {}
        """Those whose process runs, or is paused."""
        self.disks: dict[PeerId, list[bytes]] = {}
        """What those that are stopped kept of the ledger, or will be found to have kept."""
        self.stalled: set[PeerId] = set()
        """Those whose disk stands still."""
        self.dark: set[PeerId] = set()
        """Those whose machine has no power: nothing answers there."""
        self.story: list[Seen] = []
        self.witness: Witness | None = None
        self.network = Network(self)
        self._boots: dict[int, int] = {}
        self._clocks = Random(seed + 1)
        self._uptimes: dict[int, float] = {}
        self._digest: Any = None
        self.members = [self._make(number) for number in range(size)]
        """By number, the latest process of each, dead or alive."""
        if is_begun:
            for node in self.members:
                self.introduce(node, self.members[:1])
                self.timeline.at(self.rng.random(), self._begin, node)

    def __getitem__(self, number: int) -> Node:
        return self.members[number]

    def __iter__(self) -> Iterator[Node]:
        """Who runs, by number."""
        return (node for node in self.members if node.is_running)

    @property
    def now(self) -> float:
        return self.timeline.now

    def run(self, duration: float) -> None:
        """Let `duration` seconds pass."""
        self.timeline.run(duration)

    # What befalls nodes.

    def join(self, *friends: Node) -> Node:
        """A new member starts, with the addresses of `friends`."""
        node = self._make(len(self.members))
        self.members.append(node)
        self.introduce(node, friends)
        node.begin()
        return node

    def introduce(self, node: Node, others: Iterable[Node]) -> None:
        """Tell `node` where `others` are, as a token does."""
        node.book.add([other.address for other in others if other is not node], Origin.BOOTSTRAP, node.now)

    def kill(self, node: Node) -> None:
        """Its process ends; its peers' sockets hear of it within 0.2 s."""
        self._stop(node)
        self.network.abandon(node, is_silent=False)

    def power_off(self, node: Node) -> None:
        """Its machine is gone. Nobody hears anything."""
        self._stop(node)
        self.dark.add(node.peer)
        self.network.abandon(node, is_silent=True)

    def stop(self, node: Node) -> None:
        """It says goodbye and ends; it will be back. The rest of its ledger is stored first."""
        self.disks.pop(node.peer, None)
        self.stalled.discard(node.peer)
        self._part(node, hello.AWAY)

    def leave(self, node: Node) -> None:
        """It gives its place up: it says so in the ledger, a moment later in person, and is gone for good."""
        node.say_left()
        self.timeline.at(self.now + LAST_WORDS, self._end_leaving, node)

    def stall_disk(self, node: Node) -> None:
        """What it holds now is on its disk, and nothing of what comes: its process, or its machine, will
        end before that is written. The file is written in transactions, so it holds one moment's ledger."""
        self.disks.setdefault(node.peer, node.replica.snapshot())
        self.stalled.add(node.peer)

    def restart(self, node: Node, *, has_disk: bool = True) -> Node:
        """A new process of a stopped node, which kept its addresses; `has_disk`: and its ledger."""
        assert not node.is_running
        assert not node.has_left
        disk, is_behind = self.disks.pop(node.peer), node.peer in self.stalled
        self.stalled.discard(node.peer)
        self.dark.discard(node.peer)
        fresh = self.members[node.number] = self._make(node.number)
        fresh.is_newer = node.is_newer
        if has_disk:
            fresh.replica.restore(disk)
            fresh.replica.take_changes()
            fresh.known = {peer for peer in fresh.replica.state.owners() if fresh.has_place(peer)}
        if self.witness is not None:
            self.witness.restarted(fresh, has_disk=has_disk)
            if has_disk and is_behind:  # It says again what it remembers, and nothing else.
                for key in sorted(fresh.own_keys() | node.own_keys()):
                    self.witness.said(fresh, key, fresh.holds(Place(fresh.peer, key)))
        fresh.book.add(node.book.addresses(), Origin.KEPT, fresh.now)
        self.introduce(fresh, [self.members[0], self.members[1]])
        fresh.begin()
        return fresh

    def pause(self, node: Node) -> None:
        """SIGSTOP: it does nothing, and does not know."""
        self._disturb(node)
        node.is_paused = True

    def resume(self, node: Node) -> None:
        """SIGCONT: it finds all that came meanwhile at once, and its timers late."""
        self._disturb(node)
        node.is_paused = False
        late = [core for core, at in enumerate(node.timers) if at <= self.now]
        self.network.release(node, [(self._late_timer, node, core) for core in late])

    def deafen(self, node: Node) -> None:
        """It is stuck: it reads nothing. Its connections stay, and it goes on talking."""
        self._disturb(node)
        node.is_deaf = True

    def undeafen(self, node: Node) -> None:
        self._disturb(node)
        node.is_deaf = False
        self.network.release(node, [])

    def slow_down(self, node: Node, seconds: float) -> None:
        """Its machine is busy: it does everything so much later."""
        self._disturb(node)
        self.faults.slow[node.peer] = seconds

    def speed_up(self, node: Node) -> None:
        self._disturb(node)
        self.faults.slow.pop(node.peer, None)

    def split(self, island: Iterable[Node], *, connections_last: float = 1.0) -> None:
        """These and the others lose each other. Their connections break after so many seconds."""
        self._disturb(None)
        self.faults.island = frozenset(node.peer for node in island)
        for node in self:
            if node.peer in self.faults.island:
                for peer, pipe in sorted(node.pipes.items()):
                    if peer not in self.faults.island:
                        after = self.rng.uniform(0.5, 1.0) * connections_last
                        self.network.break_connection(node, pipe.target, after)

    def heal(self) -> None:
        """Everybody reaches everybody again."""
        self._disturb(None)
        self.faults.heal()

    def cut(self, source: Node, target: Node) -> None:
        """Nothing of `source` reaches `target` any more."""
        self._disturb(None)
        self.faults.cut.add((source.peer, target.peer))

    def uncut(self, source: Node, target: Node) -> None:
        self._disturb(None)
        self.faults.cut.discard((source.peer, target.peer))

    def connect_all(self, some: Iterable[Node], others: Iterable[Node]) -> None:
        """Each of `some` is connected to each of `others` now, whoever would have dialled when."""
        others = list(others)
        for one in some:
            for other in others:
                if one is not other:
                    self.network.connect(one, other)

    # What is to be seen.

    def status(self, observer: Node, peer: Node) -> Status:
        return observer.status(peer.peer)

    def all_hold(self, peers: Iterable[Node], status: Status) -> bool:
        """Every running node believes this of each of `peers`, but of itself."""
        observers = [node for node in self if not node.is_paused]
        return all(
            observer.status(peer.peer) is status
            for peer in peers
            for observer in observers
            if observer.peer != peer.peer
        )

    def are_ledgers_equal(self) -> bool:
        return len({node.replica.state.root_digest() for node in self}) == 1

    def said(self, status: Status, since: float = 0.0) -> list[Seen]:
        """Who came to believe this, of whom, from `since` on."""
        return [seen for seen in self.story if seen.status is status and seen.at >= since]

    # What nodes report.

    def clock_ahead(self, number: int) -> float:
        """How far the monotonic clock of machine `number` is ahead; a restarted process finds it gone on."""
        if number not in self._uptimes:
            self._uptimes[number] = float(self._clocks.randrange(UPTIME_MAX))
        return self._uptimes[number]

    def addresses_in(self, entry: Entry) -> list[PeerAddress]:
        """Where the owner of this node record can be dialled, as `node/ledger_addresses.py` reads it.

        It depends on the bytes alone, so it is decoded once for all replicas.
        """
        if entry.digest not in self._addresses:
            self._addresses[entry.digest] = _addresses_in(entry)
        return self._addresses[entry.digest]

    def wake(self, node: Node, core: int, at: float) -> None:
        self.timeline.at(at, self._timer, node, core)

    def status_changed(self, observer: Node, peer: PeerId, status: Status) -> None:
        self.story.append(Seen(self.now, observer.peer, peer, status))
        if self.witness is not None:
            self.witness.status_changed(observer, peer, status)

    def ledger_changed(self, node: Node, change: Change) -> None:
        if self.witness is not None:
            self.witness.ledger_changed(node, change)

    def keep_trace(self) -> None:
        """Digest everything that arrives from now on."""
        self._digest = hashlib.sha256()

    def trace(self, kind: str, pipe: Pipe, message: object) -> None:
        if self._digest is not None:
            line = f"{self.now!r} {kind} {pipe.source.number} {pipe.target.number} {message!r}\n"
            self._digest.update(line.encode())

    def trace_digest(self) -> str:
        """Of all that arrived, and of all that was believed."""
        for seen in self.story:
            self._digest.update(f"{seen}\n".encode())
        digest: str = self._digest.hexdigest()
        return digest

    def _make(self, number: int) -> Node:
        boot = self._boots[number] = self._boots.get(number, 0) + 1
        node = Node(self, number, member(number), self.proofs, boot)
        self.nodes[node.peer] = node
        return node

    def _disturb(self, node: Node | None) -> None:
        if self.witness is not None:
            self.witness.disturbed(node)

    def _begin(self, node: Node, _: None) -> None:
        node.begin()

    def _end_leaving(self, node: Node, _: None) -> None:
        if node.is_running:  # Otherwise something else ended it first.
            self._part(node, hello.LEAVE)

    def _part(self, node: Node, word: str) -> None:
        for peer in sorted(node.pipes):
            self.network.close(node, peer, word)
        self._stop(node)

    def _stop(self, node: Node) -> None:
        if node.peer not in self.stalled:
            self.disks[node.peer] = node.replica.snapshot()
        node.is_running = node.is_paused = node.is_deaf = False
        del self.nodes[node.peer]

    def _timer(self, node: Node, core: int) -> None:
        if node.timers[core] != self.now or not node.is_running or node.is_paused:
            return  # It was set for earlier meanwhile; or the node will find it late.
        late_by = self.faults.slow.get(node.peer, 0.0) if self.faults.slow else 0.0
        if late_by:
            self.timeline.at(self.now + late_by, self._late_timer, node, core)
        else:
            node.on_timer(core)

    def _late_timer(self, node: Node, core: int) -> None:
        if node.is_running and not node.is_paused:
            node.on_timer(core)


def _addresses_in(entry: Entry) -> list[PeerAddress]:
    if entry.deleted:
        return []
    try:
        record = decode_record(NODE_KEY, decode_value_untrusted(entry.value))
    except BadRecord:
        return []
    if not isinstance(record, NodeRecord) or record.presence == "away":
        return []
    told = [text for text in record.addresses[: hello.ADDRESSES_PER_PEER_MAX] if hello.is_multiaddr(text)]
    return [PeerAddress(entry.owner, text) for text in told]
