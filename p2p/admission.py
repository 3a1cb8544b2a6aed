"""The door of the swarm: which connected peers are members, and who is dialled.

    connected --HELLO, credential holds--> admitted --BYE, or the stream ends--> gone
        |
        +--nothing within 5 s, or it does not hold--> dismissed: told why, disconnected

One of two that are connected, the smaller peer id, opens the control stream, so
it does not matter who dialled, or whether both did. Whoever has the right is let in;
where there are more members than a node keeps, another one is let go for it.

Pure: events in, effects out. The shell (`swarm.py`) reads both clocks for it.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from random import Random

from p2p import hello
from p2p.address_book import AddressBook, AddressBookConfig
from p2p.admission_config import AdmissionConfig
from p2p.admission_events import (
    AddressesFound,
    AddressesReceived,
    ByeReceived,
    CloseControl,
    ControlEnded,
    ControlId,
    ControlOpened,
    CopySuspected,
    DialEnded,
    Disconnect,
    Effect,
    Event,
    HelloReceived,
    LeaveDecided,
    OpenControl,
    PeerWanted,
    PlaceGivenUp,
    Refusal,
    RuleBroken,
    SayHello,
    Tell,
    TimerFired,
    Unreached,
)
from p2p.boot_ids import BootIds
from p2p.errors import NotAdmitted
from p2p.finder import Finder
from p2p.guest import CONTROL_STREAMS_MAX, Guest
from p2p.hello import Bye
from p2p.known_peer import Origin
from p2p.neighbours import Neighbours
from p2p.network import Connected, Disconnected, Rerouted
from p2p.peer import PeerAddress, PeerId
from p2p.peer_events import Member, PeerAdmitted, PeerLost

_REFUSALS = frozenset({hello.REFUSED, hello.COPIED_HOME, hello.MISBEHAVED})
"""Goodbyes that a person at the other end should read."""


@dataclass(slots=True)
class Admission:
    """Who is a member. Reads no clock, sends nothing."""

    me: PeerId
    founder_public_key: bytes
    rng: Random
    config: AdmissionConfig = field(default_factory=AdmissionConfig)
    in_use: Container[PeerId] = frozenset()
    """Members that are not let go now; looked at anew each time."""
    neighbours: Neighbours = field(init=False)
    book: AddressBook = field(init=False)
    _finder: Finder = field(init=False)
    _guests: dict[PeerId, Guest] = field(default_factory=dict)
    _members: dict[PeerId, Member] = field(default_factory=dict)
    _boots: BootIds = field(default_factory=BootIds)
    _news_at: float = -inf
    _is_leaving: bool = False

    def __post_init__(self) -> None:
        self.neighbours = Neighbours(self.rng, self.config.neighbours)
        self.book = AddressBook(self.me, AddressBookConfig(), self.rng)
        self._finder = Finder(self.book, self.neighbours)

    @property
    def members(self) -> Mapping[PeerId, Member]:
        """Everybody who is admitted now."""
        return self._members

    def next_wake(self) -> float:
        """When to feed a `TimerFired`, if nothing happens until then."""
        wakes = [guest.wake_at for guest in self._guests.values()]
        if self._is_leaving:
            return min(wakes, default=inf)
        news_at = self._news_at if self._members else inf
        return min([*wakes, news_at, self._finder.next_wake(self._hoped_for)])

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What to do about `event`."""
        effects = list(self._decide(event, now))
        if not self._is_leaving:
            effects += self._let_go(now)
            effects += self._finder.next_dials(self._hoped_for, now)
        return effects

    @property
    def _arriving(self) -> int:
        """How many are connected and not admitted, yet or any more."""
        return len(self._guests) - len(self._members)

    @property
    def _hoped_for(self) -> int:
        """How many of those arriving we dialled. Others come as they like, and may never say who they are."""
        return sum(guest.is_dialled and peer not in self._members for peer, guest in self._guests.items())

    def _decide(self, event: Event, now: float) -> Iterator[Effect]:  # noqa: C901, PLR0912 - one line per event
        match event:
            case Connected(peer, is_dialled):
                yield from self._on_connected(peer, now, is_dialled=is_dialled)
            case Disconnected(peer):
                yield from self._on_disconnected(peer, now)
            case Rerouted(peer):
                self._on_rerouted(peer, now)
            case ControlOpened(peer, control):
                yield from self._on_control_opened(peer, control, now)
            case ControlEnded(peer, control):
                yield from self._on_control_ended(peer, control, now)
            case RuleBroken(peer, control, rule):
                if self._current(peer, control):
                    yield from self._refuse(peer, hello.MISBEHAVED, rule, now)
            case HelloReceived():
                yield from self._on_hello(event, now)
            case AddressesReceived():
                yield from self._on_addresses(event, now)
            case ByeReceived(peer, control, bye):
                yield from self._on_bye(peer, control, bye, now)
            case DialEnded(address, is_connected):
                self.book.dial_ended(address, is_connected, now)
                if not is_connected:
                    yield from self._finder.missed(address.peer)
            case AddressesFound(addresses, origin):
                self.book.add(addresses, origin, now)
            case PlaceGivenUp(peer) if peer not in self._members:  # One that is here says goodbye itself.
                self.book.forget(peer)
            case PeerWanted(peer):
                if self._is_leaving:
                    yield Unreached(peer)
                else:
                    yield from self._finder.seek(peer, now, is_here=peer in self._guests)
            case LeaveDecided(reason):
                self._is_leaving = True
                for peer in sorted(self._guests):
                    yield from self._dismiss(peer, Bye(reason), now)
                yield from self._finder.give_up()
            case TimerFired():
                yield from self._on_timer(now)

    def _on_connected(self, peer: PeerId, now: float, *, is_dialled: bool) -> Iterator[Effect]:
        self.book.connected(peer)
        guest = self._guests.get(peer)
        if guest is None:
            guest = self._guests[peer] = Guest(deadline=now + self.config.hello_timeout)
        guest.is_connected, guest.is_dialled, guest.since = True, is_dialled, now
        if self._is_leaving:
            yield from self._dismiss(peer, Bye(hello.AWAY), now)
        elif self._arriving > self.config.strangers_max:
            yield from self._dismiss(peer, Bye(hello.CROWDED), now)
        elif self.me < peer and guest.control is None:
            yield OpenControl(peer)

    def _on_disconnected(self, peer: PeerId, now: float) -> Iterator[Effect]:
        self.book.disconnected(peer, now)
        self._guests.pop(peer, None)
        yield from self._lose(peer, is_announced=False, reason="the connection broke")
        yield from self._finder.missed(peer)

    def _on_rerouted(self, peer: PeerId, now: float) -> None:
        """Open the control stream again, so that it does not hold up the end of the other connection."""
        guest = self._guests.get(peer)
        if guest is not None and self.me < peer:
            # One that is being opened this moment is open by then: both ends see them in this order.
            guest.open_at = now + self.config.retry_delay

    def _on_control_opened(self, peer: PeerId, control: ControlId, now: float) -> Iterator[Effect]:
        guest = self._guests.setdefault(peer, Guest(deadline=now + self.config.hello_timeout))
        if guest.is_dismissed:
            yield CloseControl(control)
            return
        guest.control_streams += 1
        if guest.control_streams > CONTROL_STREAMS_MAX:
            yield CloseControl(control)
            yield from self._refuse(peer, hello.MISBEHAVED, "a flood of control streams", now)
            return
        if guest.former is not None:
            yield CloseControl(guest.former)
        if guest.has_said_hello:  # Otherwise the first deadline stands, however many streams come.
            guest.deadline = now + self.config.hello_timeout
            guest.has_said_hello = False
        guest.former, guest.control = guest.control, control
        yield SayHello(control)

    def _on_control_ended(self, peer: PeerId, control: ControlId | None, now: float) -> Iterator[Effect]:
        guest = self._current(peer, control)
        if guest is None:
            return
        guest.control = None
        if peer in self._members:
            yield from self._lose(peer, is_announced=False, reason="the connection ended without a goodbye")
            yield from self._dismiss(peer, None, now)
        elif not guest.is_connected:
            del self._guests[peer]
        elif self.me < peer:
            guest.open_at = now + self.config.retry_delay

    def _on_hello(self, event: HelloReceived, now: float) -> Iterator[Effect]:
        peer, said = event.peer, event.hello
        guest = self._current(peer, event.control)
        if guest is None:
            return
        if guest.has_said_hello:
            yield from self._refuse(peer, hello.MISBEHAVED, "a second HELLO", now)
            return
        try:
            grant = said.credential.verify(self.founder_public_key, peer, event.unix_time)
        except NotAdmitted as error:
            yield from self._refuse(peer, hello.REFUSED, str(error), now)
            return
        if not guest.is_same_process(said.boot_id, now):
            yield from self._refuse(peer, hello.MISBEHAVED, "another boot id on the same connection", now)
            return
        if self._boots.is_replaced(peer, said.boot_id):
            if now < self._boots.replaced_at(peer) + self.config.swap_interval:
                bye = Bye(hello.COPIED_HOME, "another process runs under this key")
                yield from self._dismiss(peer, bye, now)
                return
            yield CopySuspected(peer)
        guest.has_said_hello = True
        if guest.former is not None:
            yield CloseControl(guest.former)
            guest.former = None
        self._boots.remember(peer, said.boot_id, now)
        yield from self._admit(
            Member(peer, said.name, said.version, said.boot_id, grant.role, grant.invites, said.addresses),
            now,
        )

    def _admit(self, member: Member, now: float) -> Iterator[Effect]:
        """Let `member` in, and tell it where to find the others."""
        peer, before = member.peer, self._members.get(member.peer)
        if before is not None and before.boot_id != member.boot_id:
            yield from self._lose(peer, is_announced=False, reason="it was restarted")
            before = None
        self._members[peer] = member
        self.book.add([PeerAddress(peer, place) for place in member.addresses], Origin.LEARNED, now)
        self.book.admitted(peer, now)
        if before is not None:
            return  # Two connections crossed, and its first control stream went with the other one.
        self.neighbours.came(peer, now, is_chosen=self._guests[peer].is_dialled)
        self._finder.found(peer)
        yield PeerAdmitted(peer)
        yield from self._tell_of_others(peer)

    def _on_addresses(self, event: AddressesReceived, now: float) -> Iterator[Effect]:
        guest = self._current(event.peer, event.control)
        if guest is None:
            return
        if not guest.has_said_hello or guest.address_frames(now) > self.config.address_frames_max:
            yield from self._refuse(
                event.peer, hello.MISBEHAVED, "addresses before HELLO, or a flood of them", now
            )
            return
        self.book.add(event.addresses, Origin.LEARNED, now)

    def _on_bye(self, peer: PeerId, control: ControlId, bye: Bye, now: float) -> Iterator[Effect]:
        if self._current(peer, control) is None:
            return
        if bye.reason == hello.LEAVE:
            self.book.forget(peer)
        self.book.put_off(peer, self.config.pause_after(bye.reason), now)
        if bye.reason in _REFUSALS:
            yield Refusal(peer, by_us=False, reason=bye.text or bye.reason)
        is_leaving = bye.reason in hello.GOING
        yield from self._lose(peer, is_announced=True, reason=bye.reason, is_leaving=is_leaving)
        yield from self._dismiss(peer, None, now)

    def _let_go(self, now: float) -> Iterator[Effect]:
        """Part with those that are too many."""
        for peer in self.neighbours.let_go(self.in_use, now):
            yield from self._dismiss(peer, Bye(hello.ENOUGH), now)

    def _on_timer(self, now: float) -> Iterator[Effect]:
        for peer, guest in sorted(self._guests.items(), key=lambda item: item[0]):
            if guest.is_dismissed:
                continue
            if guest.open_at <= now:
                guest.open_at = inf
                yield OpenControl(peer)
            if not guest.has_said_hello and guest.deadline <= now:
                yield from self._refuse(peer, hello.NO_HELLO, "it did not say who it is in time", now)
        if self._news_at <= now:
            self._news_at = now + self.config.news_interval
            if self._members:
                yield from self._tell_of_others(self.rng.choice(sorted(self._members)))
        yield from self._finder.give_up(until=now)

    def _refuse(self, peer: PeerId, reason: str, text: str, now: float) -> Iterator[Effect]:
        yield Refusal(peer, by_us=True, reason=text)
        yield from self._dismiss(peer, Bye(reason, text), now)

    def _dismiss(self, peer: PeerId, bye: Bye | None, now: float) -> Iterator[Effect]:
        """End the connection to `peer`, once."""
        guest = self._guests.get(peer)
        if guest is None or guest.is_dismissed:
            return
        guest.is_dismissed = True
        if bye is not None:
            self.book.put_off(peer, self.config.pause_after(bye.reason), now)
            yield from self._lose(peer, is_announced=True, reason=bye.reason)
        yield Disconnect(peer, guest.control, bye)
        if not guest.is_connected:
            del self._guests[peer]  # The network will not tell of an end where it told of no beginning.

    def _lose(
        self, peer: PeerId, *, is_announced: bool, reason: str, is_leaving: bool = False
    ) -> Iterator[Effect]:
        if self._members.pop(peer, None) is not None:
            self.neighbours.went(peer)
            yield PeerLost(peer, is_announced, reason, is_leaving)

    def _tell_of_others(self, peer: PeerId) -> Iterator[Effect]:
        """Say to `peer` where all other members are."""
        control = self._guests[peer].control
        others = [(other, self._members[other].addresses) for other in sorted(self._members) if other != peer]
        if control is not None:
            for news in hello.in_frames(others):
                yield Tell(control, news)

    def _current(self, peer: PeerId, control: ControlId | None) -> Guest | None:
        """The guest that speaks on `control`, unless what it says does not count any more."""
        guest = self._guests.get(peer)
        return guest if guest and guest.control == control and not guest.is_dismissed else None
