"""Many fetches and seeders in virtual time: cores alone, with what a network does to them in between.

    world = FetchWorld(size_bytes, seed=1)
    world.add("origin", rate=20e6, has_all=True)
    world.add("a"), world.add("b")
    world.run(60)

Whoever fetches gives what it has stored. A peer sends at its `rate`, in the turns of `upload.py`, and to each
peer in the order that it asked for. The same seed tells the same story.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from p2p.blobs.fetch import Fetch
from p2p.blobs.fetch_events import (
    Ask,
    BytesArrived,
    Cancel,
    ChunkArrived,
    ChunkRefused,
    ChunkStored,
    ChunkWrong,
    DropSeeder,
    Event,
    HashesKnown,
    LateBytesArrived,
    Refusal,
    SeederGained,
    SeederLost,
    SeederOffered,
    TimerFired,
)
from p2p.blobs.have_map import HaveMap
from p2p.blobs.manifest import chunk_count, chunk_size
from p2p.blobs.upload import Upload, UploadLimits
from p2p.peer import PeerId

LATENCY = 0.001
"""Seconds one way."""
CHECK_TIME = 0.02
"""Seconds from a chunk's last byte until it is stored."""
TELL_TIME = 0.05
"""Seconds from there until others are told: several chunks are told of at once."""
PIECE_SIZE = 256 * 1024
"""Bytes sent in one go. Four times what the program sends, for a quick simulation."""


@dataclass(eq=False)
class Request:
    """One chunk that was asked for."""

    chunk: int
    unsent: int
    """Bytes."""
    got: int = 0


@dataclass
class Node:
    """One peer: what it has, what it still owes, and what it fetches."""

    name: PeerId
    rate: float
    has: HaveMap
    fetch: Fetch | None = None
    lies: bool = False
    """All that it sends is wrong."""
    brags: bool = False
    """It says that it has all, and refuses what it lacks."""
    is_dead: bool = False
    is_frozen: bool = False
    sent_bytes: int = 0
    got_bytes: int = 0
    done_at: float | None = None
    queues: dict[PeerId, deque[Request]] = field(default_factory=dict)
    """For each who asked, what it asked for and was not sent whole."""
    upload: Upload = field(init=False)
    waiting: set[PeerId] = field(default_factory=set)
    """Those whose next piece waits for its turn."""
    turn_at: float = math.inf
    """When turns are given next."""
    open: dict[tuple[PeerId, int], Request] = field(default_factory=dict)
    """What is under way to it, by whom and which chunk was asked."""
    asked: list[tuple[PeerId, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.upload = Upload(UploadLimits(rate=self.rate))


class FetchWorld:
    """All peers, and one file."""

    def __init__(self, size_bytes: int, seed: int) -> None:
        self.size_bytes = size_bytes
        self.rng = Random(seed)
        self.now = 0.0
        self.nodes: dict[PeerId, Node] = {}
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def add(
        self,
        name: str,
        *,
        rate: float = 100e6,
        has_all: bool = False,
        has: tuple[int, ...] = (),
        lies: bool = False,
        brags: bool = False,
    ) -> Node:
        """A peer, known to all others from now on. Who has not all fetches the rest."""
        count = chunk_count(self.size_bytes)
        have = HaveMap.full(count) if has_all else HaveMap(count)
        for chunk in has:
            have.add(chunk)
        node = Node(PeerId(name), rate, have, lies=lies, brags=brags)
        others = list(self.nodes.values())
        self.nodes[node.name] = node
        if not has_all and not has:
            self._begin(node)
        self._meet(node, others)
        return node

    def restart(self, node: Node) -> None:
        """Its process ends and begins again, with what it had stored."""
        self.kill(node)
        node.open.clear()
        node.is_dead = False
        self._begin(node)
        self._meet(node, [other for other in self.nodes.values() if other is not node])

    def _begin(self, node: Node) -> None:
        node.fetch = Fetch(self.size_bytes, node.has, node.name, Random(self.rng.random()))
        self._tell(node, HashesKnown(range(node.has.chunk_count)))

    def _meet(self, node: Node, others: list[Node]) -> None:
        for other in others:
            self.after(LATENCY, partial(self._offer, other, node))
            self.after(LATENCY, partial(self._offer, node, other))

    def _offer(self, seeder: Node, asker: Node) -> None:
        has = HaveMap.full(seeder.has.chunk_count) if seeder.brags else seeder.has.copy()
        self._tell(asker, SeederOffered(seeder.name, has))

    def after(self, delay: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (self.now + delay, self._count, action))

    def run(self, seconds: float) -> None:
        """Let time pass, or stop when nothing will happen any more."""
        until = self.now + seconds
        while True:
            timers = [node.turn_at for node in self.nodes.values()]
            timers += [node.fetch.wake_at for node in self.nodes.values() if node.fetch and not node.is_dead]
            wake_at = min(timers, default=math.inf)
            next_at = self._due[0][0] if self._due else math.inf
            self.now = min(wake_at, next_at, until)
            if self.now == until:
                return
            if next_at <= wake_at:
                heapq.heappop(self._due)[2]()
            else:
                for node in list(self.nodes.values()):
                    if node.turn_at <= self.now:
                        self._give_turns(node)
                    if node.fetch and node.fetch.wake_at <= self.now:
                        self._tell(node, TimerFired())

    def kill(self, node: Node) -> None:
        """Its process ends; others see it at once."""
        node.is_dead = True
        for other in self.nodes.values():
            self._tell(other, SeederLost(node.name))
            other.queues.get(node.name, deque()).clear()

    def _tell(self, node: Node, event: Event) -> None:
        if node.is_dead or node.fetch is None:
            return
        for effect in node.fetch.handle(event, self.now):
            match effect:
                case Ask(peer, chunk):
                    self._check_ask(node, peer, chunk)
                    request = node.open[peer, chunk] = Request(chunk, chunk_size(self.size_bytes, chunk))
                    self.after(LATENCY, partial(self._on_ask, self.nodes[peer], node, request))
                case Cancel(peer, chunk):
                    request = node.open.pop((peer, chunk))
                    self.after(LATENCY, partial(self._on_cancel, self.nodes[peer], node, request))
                case DropSeeder():
                    pass  # It is told to the program; the core asks that peer for nothing by itself.

    def _check_ask(self, node: Node, peer: PeerId, chunk: int) -> None:
        node.asked.append((peer, chunk))
        assert chunk in self.nodes[peer].has or self.nodes[peer].brags, "asked for what it lacks"
        assert chunk not in node.has, "asked for what is there"
        assert (peer, chunk) not in node.open, "asked for what is under way"
        assert node.fetch is not None
        assert sum(one == peer for one, _ in node.open) < node.fetch.config.window_max
        assert sum(one == chunk for _, one in node.open) < 2, "asked for three times"

    def _on_ask(self, seeder: Node, asker: Node, request: Request) -> None:
        if request.chunk not in seeder.has:
            self.after(LATENCY, partial(self._on_refusal, seeder, asker, request))
            return
        seeder.queues.setdefault(asker.name, deque()).append(request)
        self._give_turns(seeder)

    def _on_refusal(self, seeder: Node, asker: Node, request: Request) -> None:
        if asker.open.get((seeder.name, request.chunk)) is request:
            del asker.open[seeder.name, request.chunk]
            self._tell(asker, ChunkRefused(seeder.name, request.chunk, Refusal.NO_CHUNK))

    def _on_cancel(self, seeder: Node, asker: Node, request: Request) -> None:
        queue = seeder.queues.get(asker.name, deque())
        if request in queue:
            queue.remove(request)

    def _give_turns(self, seeder: Node) -> None:
        seeder.turn_at = math.inf
        if seeder.is_dead or seeder.is_frozen:
            return
        self._queue_pieces(seeder)
        while due := seeder.upload.due(self.now, is_inference_busy=False):
            for name in due:
                seeder.waiting.remove(name)
                self._send_piece(seeder, name)
            self._queue_pieces(seeder)
        if seeder.upload.wake_at < math.inf:
            seeder.turn_at = seeder.upload.wake_at

    def _queue_pieces(self, seeder: Node) -> None:
        """Whoever was sent its last piece waits for the next one, or has none."""
        for name, queue in seeder.queues.items():
            if not queue:
                seeder.waiting.discard(name)
                seeder.upload.leave(name, self.now)
            elif name not in seeder.waiting:
                seeder.waiting.add(name)
                seeder.upload.want(name, min(queue[0].unsent, PIECE_SIZE), self.now)

    def _send_piece(self, seeder: Node, name: PeerId) -> None:
        request = seeder.queues[name][0]
        size = min(request.unsent, PIECE_SIZE)
        request.unsent -= size
        if not request.unsent:
            seeder.queues[name].popleft()
        seeder.sent_bytes += size
        self.after(LATENCY, partial(self._on_piece, seeder, self.nodes[name], request, size))

    def _on_piece(self, seeder: Node, asker: Node, request: Request, size: int) -> None:
        if asker.is_dead:
            return
        asker.got_bytes += size
        key = seeder.name, request.chunk
        if asker.open.get(key) is not request:
            self._tell(asker, LateBytesArrived(seeder.name, size))
            return
        self._tell(asker, BytesArrived(seeder.name, request.chunk, size))
        request.got += size
        if request.got == chunk_size(self.size_bytes, request.chunk):
            del asker.open[key]
            self._tell(asker, ChunkArrived(seeder.name, request.chunk))
            self.after(CHECK_TIME, partial(self._checked, seeder, asker, request.chunk))

    def _checked(self, seeder: Node, asker: Node, chunk: int) -> None:
        if asker.is_dead or asker.fetch is None:
            return
        if seeder.lies:
            self._tell(asker, ChunkWrong(seeder.name, chunk))
            return
        asker.has.add(chunk)
        self._tell(asker, ChunkStored(chunk))
        if asker.fetch.is_done and asker.done_at is None:
            asker.done_at = self.now
        for other in self.nodes.values():
            if other is not asker:
                self.after(TELL_TIME, partial(self._tell, other, SeederGained(asker.name, [chunk])))
