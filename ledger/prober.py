"""Prober: the failure detector carried out over streams between members.

    members ----- who came, who went -----> +------------------+ ---- messages ----> one standing
    ledger ------ whom there is to know --> | failure detector |                     stream per peer
    streams ----- messages, their end ----> +------------------+ ---- changes -----> `revision`
    federation -- report_failure --------->

Each event is decided the moment it is seen, by whichever task sees it. Deciding never
awaits, so there is no lock, and no queue between evidence and verdict: a front that
reports a failure and chooses again at once does not choose that peer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from random import Random
from typing import TypeAlias

import trio

from ledger.asleep import time_asleep
from ledger.beliefs import PeerHealth
from ledger.failure_detector import FailureDetector
from ledger.ledger import Ledger
from ledger.liveness_events import (
    ByeSaid,
    DoubtRaised,
    Event,
    FailureReported,
    LinkLost,
    LinkOpened,
    MessageReceived,
    PeersKnown,
    SendMessage,
    StatusChanged,
    TimerFired,
)
from ledger.probe import FRAME_SIZE_MAX, PROTOCOL_ID, Loads, Message, from_frame_untrusted, to_frame
from ledger.records import LEAVE_KEY, NODE_KEY, Load, ModelName
from ledger.rumour import Status
from ledger.standing_streams import Members, StandingStreams
from p2p.frame_stream import FrameStream
from p2p.peer import PeerId
from p2p.peer_events import PeerLost
from p2p.revision import Revision

logger = logging.getLogger(__name__)

_UNSENT_MAX = 32
"""Messages that wait for one peer. Ten seconds of probes: a peer that reads none for so long is frozen."""

LoadSource: TypeAlias = Callable[[], Mapping[ModelName, Load]]
"""How busy this node is now."""


class _Link:
    """The standing stream to one peer."""

    def __init__(self, peer: PeerId) -> None:
        self.peer = peer
        self.unsent, self.to_send = trio.open_memory_channel[Message](_UNSENT_MAX)


class Prober:
    """Watches over the peers. Answers them from the moment it is made, asks them in `run`."""

    def __init__(
        self,
        members: Members,
        ledger: Ledger,
        own_loads: LoadSource,
        rng: Random,
        asleep: Callable[[], float] = time_asleep,
    ) -> None:
        """`asleep`: seconds that this machine slept, of which trio's clock knows nothing."""
        self.revision = Revision()
        """Rises when a peer's status or load changed."""
        self._members = members
        self._ledger = ledger
        self._own_loads = own_loads
        self._detector = FailureDetector(members.me, rng)
        self._links: dict[PeerId, _Link] = {}
        self._loads: dict[PeerId, Loads] = {}
        self._asleep = asleep
        self._sleeps_until = 0.0
        self._is_due_earlier = trio.Event()
        self._streams = StandingStreams(members, PROTOCOL_ID, FRAME_SIZE_MAX, self._talk, rng)

    def now(self) -> float:
        """Seconds, of the clock that `PeerHealth.heard_at` is of: it goes on while this machine sleeps."""
        return trio.current_time() + self._asleep()

    def health(self, peer: PeerId) -> PeerHealth:
        """What is known of `peer`'s life; of a stranger, nothing."""
        return self._detector.beliefs.peers.get(peer) or PeerHealth()

    def loads(self, peer: PeerId) -> Loads:
        """How busy `peer` said it is, wherever it said so last; empty while we cannot hear it."""
        return self._loads.get(peer, {})

    def note_loads(self, peer: PeerId, loads: Loads) -> None:
        """`peer` has just said, elsewhere than in a probe, how busy it is with some of its models."""
        if peer in self._links:
            self._note_loads(peer, {**self.loads(peer), **loads})

    def is_doubtful(self, peer: PeerId) -> bool:
        """Whether `peer` is suspect, or believed offline."""
        return self.health(peer).status in (Status.SUSPECT, Status.OFFLINE)

    def report_failure(self, peer: PeerId, reason: str) -> None:
        """Say that `peer` could not be reached: it is suspect from now on, and asked at once."""
        logger.debug("%s could not be reached: %s", peer, reason)
        self._handle(FailureReported(peer))

    def ask(self, peer: PeerId) -> float:
        """Ask `peer` now whether it lives. Returns the time, of `now`, for `has_heard`."""
        self._handle(DoubtRaised(peer))
        return self.now()

    def has_heard(self, peer: PeerId, since: float) -> bool:
        """Whether `peer` said anything on its probe stream since then. Where there is none: whether it is
        believed to live."""
        health = self.health(peer)
        if not health.is_linked:
            return health.status is Status.ALIVE
        return health.heard_at is not None and health.heard_at >= since

    async def run(self) -> None:
        """Watch until cancelled, or until the swarm ends."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_time)
            nursery.start_soon(self._follow_ledger)
            nursery.start_soon(self._follow_goodbyes)
            await self._streams.run()
            nursery.cancel_scope.cancel()

    def _handle(self, event: Event) -> None:
        for effect in self._detector.handle(event, self.now()):
            match effect:
                case SendMessage(peer, message) if peer in self._links:
                    self._send(self._links[peer], message)
                case StatusChanged(peer, status):
                    self._note_status(peer, status)
        if self._detector.wake_at < self._sleeps_until:
            self._is_due_earlier.set()

    def _send(self, link: _Link, message: Message) -> None:
        try:
            link.unsent.send_nowait(message)
        except trio.WouldBlock:
            logger.debug("%s does not read: a probe message is dropped", link.peer)

    def _note_status(self, peer: PeerId, status: Status) -> None:
        logger.debug("%s is %s", peer, status.name.lower())
        if status is Status.OFFLINE:
            self._loads.pop(peer, None)
        self.revision.rise()

    async def _keep_time(self) -> None:
        while True:
            self._is_due_earlier = trio.Event()
            self._sleeps_until = self._detector.wake_at
            with trio.move_on_at(self._sleeps_until - self._asleep()) as timer:
                await self._is_due_earlier.wait()
            if timer.cancelled_caught:
                self._handle(TimerFired())

    async def _follow_ledger(self) -> None:
        with self._ledger.subscribe() as changes:
            known = frozenset(peer for peer in self._ledger.owners() if self._has_place(peer))
            self._handle(PeersKnown(known))
            async for change in changes:
                if change.key in (NODE_KEY, LEAVE_KEY):
                    # Of the others nothing was said: to look a thousand up at each word of one is too much.
                    owner = {change.owner}
                    before, known = known, known | owner if self._has_place(change.owner) else known - owner
                    if known != before:
                        self._handle(PeersKnown(known))

    def _has_place(self, peer: PeerId) -> bool:
        """Whether `peer` is in the swarm, as the ledger has it."""
        return self._ledger.node_record(peer) is not None

    async def _follow_goodbyes(self) -> None:
        with self._members.subscribe() as events:
            async for event in events:
                match event:
                    case PeerLost(peer, is_leaving=True):
                        self._handle(ByeSaid(peer))
                    case PeerLost(peer, announced=False, reason=reason):
                        self.report_failure(peer, reason)

    async def _talk(self, peer: PeerId, frames: FrameStream) -> None:
        """Exchange probes until the frames end."""
        link = self._links[peer] = _Link(peer)
        self._handle(LinkOpened(peer))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, link, frames)
                await self._read(peer, frames)
                nursery.cancel_scope.cancel()
        finally:
            if self._links.get(peer) is link:
                del self._links[peer]
                self._loads.pop(peer, None)
                self._handle(LinkLost(peer))

    async def _read(self, peer: PeerId, frames: FrameStream) -> None:
        while (frame := await frames.receive()) is not None:
            message, loads = from_frame_untrusted(frame)
            if loads is not None:
                self._note_loads(peer, loads)
            self._handle(MessageReceived(peer, message))

    def _note_loads(self, peer: PeerId, loads: Loads) -> None:
        if loads != self._loads.get(peer):
            self._loads[peer] = loads
            self.revision.rise()

    async def _write(self, link: _Link, frames: FrameStream) -> None:
        async for message in link.to_send:
            await frames.send(to_frame(message, self._own_loads()))
