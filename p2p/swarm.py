"""The swarm as the other folders hold it: streams to admitted peers, and who they are.

    ledger, federation --> Swarm --> Network (libp2p, memory)
                             |
                             +-- Admission (core): who is let in, who is dialled

It connects and reconnects by itself, from every address it hears of; in a large swarm
to some members only, and to any other when a stream to it is opened. Streams of
any protocol reach only admitted peers, both ways: an inbound one waits until its
peer's `hello` is done, or is reset.

Each event is handled in one synchronous call, so no two mix and no lock is needed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

import trio

from p2p.admission import Admission
from p2p.admission_config import AdmissionConfig
from p2p.admission_events import (
    AddressesFound,
    CloseControl,
    CopySuspected,
    Dial,
    DialEnded,
    Disconnect,
    Effect,
    Event,
    LeaveDecided,
    OpenControl,
    PeerWanted,
    PlaceGivenUp,
    Refusal,
    SayHello,
    Tell,
    TimerFired,
    Unreached,
)
from p2p.controls import Controls
from p2p.errors import BadAddress, Unreachable
from p2p.hello import ADDRESSES_PER_PEER_MAX, NAME_LENGTH_MAX, PROTOCOL_ID, Hello, printable
from p2p.known_peer import Origin
from p2p.membership import SwarmMembership
from p2p.network import Network, PeerStream, StreamHandler
from p2p.peer import PeerAddress, PeerId
from p2p.peer_events import Member, PeerAdmitted, PeerEvent, PeerEvents, PeerLost
from p2p.stream_gate import StreamGate

logger = logging.getLogger(__name__)

WAITED_DIAL_TIME = 1.5
"""Seconds at one place of a peer that a caller waits for, while there is another: a lost SYN is sent again
after one second, and three places fit into the time that a caller waits (`finder.FIND_TIME_MAX`)."""


@dataclass(frozen=True, slots=True)
class _InUse:
    """Peers with an open stream that somebody opened for a purpose."""

    network: Network
    standing: frozenset[str]

    def __contains__(self, peer: object) -> bool:
        return any(
            protocol not in self.standing for protocol in self.network.open_protocols(PeerId(str(peer)))
        )


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a node says of itself to every peer."""

    name: str
    version: str
    boot_id: str
    """New at each start of the process."""


class Swarm:
    """A `Streams` over admitted peers, which also finds them."""

    def __init__(
        self,
        network: Network,
        membership: SwarmMembership,
        introduction: Introduction,
        *,
        rng: Random,
        wall_clock: Callable[[], float] = time.time,
        standing: Iterable[str] = (),
        config: AdmissionConfig | None = None,
    ) -> None:
        """`standing` are the protocols that have a stream to every member, for as long as it is one:
        such a stream does not keep a connection, nor is one made for it."""
        self._network = network
        self._membership = membership
        self._introduction = introduction
        self._standing = frozenset({PROTOCOL_ID, *standing})
        in_use = _InUse(network, self._standing)
        config = config or AdmissionConfig()
        self._admission = Admission(network.me, membership.founder_public_key, rng, config, in_use)
        self._controls = Controls(network, self._handle, wall_clock)
        self._gate = StreamGate(network, self._admission.members, config.hello_timeout)
        self._nursery: trio.Nursery | None = None
        self._started = trio.Event()
        self._woken = trio.Event()
        self._subscribers: list[PeerEvents] = []
        self._awaited: dict[PeerId, trio.Event] = {}
        self._dials: dict[PeerId, trio.CancelScope] = {}
        self._unheard: list[AddressesFound] = [AddressesFound(membership.bootstrap, Origin.BOOTSTRAP)]
        network.on_stream(PROTOCOL_ID, self._answer_control)

    @property
    def me(self) -> PeerId:
        return self._network.me

    def peers(self) -> Mapping[PeerId, Member]:
        """Everybody admitted at this moment."""
        return dict(self._admission.members)

    @contextmanager
    def subscribe(self) -> Iterator[PeerEvents]:
        """Who comes and goes, beginning with everybody who is here."""
        events = PeerEvents()
        for peer in sorted(self._admission.members):
            events.publish(PeerAdmitted(peer))
        self._subscribers.append(events)
        try:
            yield events
        finally:
            self._subscribers.remove(events)

    def add_addresses(self, addresses: Iterable[PeerAddress], origin: Origin) -> None:
        """Look for peers at `addresses` too."""
        self._handle(AddressesFound(tuple(addresses), origin))

    def forget(self, peer: PeerId) -> None:
        """Look for `peer` no more: it has left the swarm."""
        self._handle(PlaceGivenUp(peer))

    def known_addresses(self) -> list[PeerAddress]:
        """Where peers we have met can be found: to be added as `Origin.KEPT` in the next run."""
        return self._admission.book.addresses()

    async def open_stream(self, peer: PeerId, protocol_id: str) -> PeerStream:
        """As `Streams`; a peer that is no member now is dialled, if it is known where, for some seconds.

        Cancelled: a dial goes on in the background.
        """
        if peer not in self._admission.members:
            await self._reach(peer, protocol_id)
        return await self._network.open_stream(peer, protocol_id)

    def on_stream(self, protocol_id: str, handler: StreamHandler) -> None:
        """As `Streams`; `handler` sees streams of admitted peers only."""
        self._gate.on_stream(protocol_id, handler)

    async def say_bye(self, reason: str) -> None:
        """Tell everybody that this node goes (`hello.AWAY` or `hello.LEAVE`), and close all connections.

        Waits until they have read it, a bounded time. Nobody new is let in afterwards. Cancelled:
        the goodbyes go on in the background.
        """
        self._handle(LeaveDecided(reason))
        await self._controls.all_ended()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Find and admit peers until cancelled. All tasks live in here."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._started.set()
                nursery.start_soon(self._watch_connections)
                for event in self._unheard:
                    self._handle(event)
                task_status.started()
                await self._watch_clock()
        finally:
            self._nursery = None
            for events in self._subscribers:
                events.close()
            for peer in list(self._awaited):
                self._decided(peer)

    async def _reach(self, peer: PeerId, protocol_id: str) -> None:
        """Return when `peer` is admitted. All who call meanwhile wait for the same attempt."""
        await trio.lowlevel.checkpoint()
        if peer in self._admission.members:
            return  # It came meanwhile.
        if protocol_id in self._standing or self._nursery is None:
            raise Unreachable(f"{peer} is not connected")
        decided = self._awaited.setdefault(peer, trio.Event())
        self._handle(PeerWanted(peer))
        self._hurry(peer)
        await decided.wait()
        if peer not in self._admission.members:
            raise Unreachable(f"{peer} is not connected, and was not found")

    def _decided(self, peer: PeerId) -> None:
        """Whether `peer` can be reached is known now."""
        if peer in self._awaited:
            self._awaited.pop(peer).set()

    async def _watch_connections(self) -> None:
        async for event in self._network.events:
            self._handle(event)

    async def _watch_clock(self) -> None:
        while True:
            self._woken = trio.Event()
            with trio.move_on_at(self._admission.next_wake()) as until_due:
                await self._woken.wait()
            if until_due.cancelled_caught:
                self._handle(TimerFired())

    def _handle(self, event: Event) -> None:
        """Let the core decide, and carry it out: tasks are started, nothing is awaited."""
        if self._nursery is None:
            if isinstance(event, AddressesFound):
                self._unheard.append(event)
            return
        for effect in self._admission.handle(event, trio.current_time()):
            self._carry_out(effect, self._nursery)
        self._woken.set()

    def _carry_out(self, effect: Effect, nursery: trio.Nursery) -> None:  # noqa: C901 - a line per effect
        match effect:
            case Dial(address):
                nursery.start_soon(self._dial, address)
            case OpenControl(peer):
                nursery.start_soon(self._controls.open, peer)
            case SayHello(control):
                self._controls.post(control, self._own_hello())
            case Tell(control, message):
                self._controls.post(control, message)
            case CloseControl(control):
                self._controls.drop(control)
            case Disconnect(peer, control, bye):
                nursery.start_soon(self._controls.disconnect, peer, control, bye)
                self._gate.decided(peer)
            case Refusal(peer, by_us, reason):
                what = "we did not admit" if by_us else "we were not admitted by"
                logger.warning("%s %s: %s", what, peer, reason)
            case CopySuspected(peer):
                logger.warning(
                    "two nodes seem to run with the key of %s: a home was copied; give one a home of its own",
                    peer,
                )
            case Unreached(peer):
                self._decided(peer)
            case PeerAdmitted(peer):
                logger.debug("peer admitted: %s (%s)", peer, self._admission.members[peer].name)
                self._gate.decided(peer)
                self._decided(peer)
                self._publish(effect)
            case PeerLost(peer, announced, reason):
                logger.debug(
                    "peer lost: %s (%s, %s)", peer, reason, "announced" if announced else "unannounced"
                )
                self._publish(effect)

    def _publish(self, event: PeerEvent) -> None:
        for events in self._subscribers:
            events.publish(event)

    async def _dial(self, address: PeerAddress) -> None:
        is_connected = False
        try:
            with trio.CancelScope() as self._dials[address.peer]:
                self._hurry(address.peer)
                await self._network.dial(address)
                is_connected = True
        except (Unreachable, BadAddress) as error:
            logger.debug("dial failed: %s: %s", address, error)
        finally:
            del self._dials[address.peer]
        self._handle(DialEnded(address, is_connected))

    def _hurry(self, peer: PeerId) -> None:
        """A silent place must not use up the time of a caller while others are left to try."""
        dial = self._dials.get(peer)
        if dial is not None and peer in self._awaited and self._admission.book.is_more_to_try(peer):
            dial.deadline = min(dial.deadline, trio.current_time() + WAITED_DIAL_TIME)

    async def _answer_control(self, stream: PeerStream) -> None:
        await self._started.wait()
        await self._controls.carry(stream)

    def _own_hello(self) -> Hello:
        addresses = [address.multiaddr for address in self._network.listen_addresses]
        return Hello(
            printable(self._introduction.name, NAME_LENGTH_MAX),
            self._introduction.version,
            self._introduction.boot_id,
            self._membership.credential,
            tuple(addresses[:ADDRESSES_PER_PEER_MAX]),
        )
