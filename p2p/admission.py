"""The door of the swarm: which connected peers are members, and who is dialled.

    connected --HELLO, credential holds--> admitted --BYE, or the stream ends--> gone
        |
        +--nothing within 5 s, or it does not hold--> dismissed: told why, disconnected

One of two that are connected, the smaller peer id, opens the control stream, so
it does not matter who dialled, or whether both did.

Pure: events in, effects out. The shell (`swarm.py`) reads both clocks for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    Dial,
    DialEnded,
    Disconnect,
    Effect,
    Event,
    HelloReceived,
    LeaveDecided,
    OpenControl,
    Refusal,
    RuleBroken,
    SayHello,
    Tell,
    TimerFired,
)
from p2p.boot_ids import BootIds
from p2p.errors import NotAdmitted
from p2p.guest import Guest
from p2p.hello import Bye
from p2p.known_peer import Origin
from p2p.network import Connected, Disconnected, Rerouted
from p2p.peer import PeerAddress, PeerId
from p2p.peer_events import Member, PeerAdmitted, PeerLost


@dataclass(slots=True)
class Admission:
    """Who is a member. Reads no clock, sends nothing."""

    me: PeerId
    founder_public_key: bytes
    rng: Random
    config: AdmissionConfig = field(default_factory=AdmissionConfig)
    book: AddressBook = field(init=False)
    _guests: dict[PeerId, Guest] = field(default_factory=dict)
    _members: dict[PeerId, Member] = field(default_factory=dict)
    _boots: BootIds = field(default_factory=BootIds)
    _news_at: float = -inf
    _is_leaving: bool = False

    def __post_init__(self) -> None:
        self.book = AddressBook(self.me, AddressBookConfig(), self.rng)

    @property
    def members(self) -> Mapping[PeerId, Member]:
        """Everybody who is admitted now."""
        return self._members

    def next_wake(self) -> float:
        """When to feed a `TimerFired`, if nothing happens until then."""
        wakes = [guest.wake_at for guest in self._guests.values()]
        if self._is_leaving:
            return min(wakes, default=inf)
        return min([*wakes, self.book.next_wake(), self._news_at if self._members else inf])

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What to do about `event`."""
        effects = list(self._decide(event, now))
        if not self._is_leaving:
            effects += [Dial(address) for address in self.book.next_dials(now)]
        return effects

    def _decide(self, event: Event, now: float) -> Iterator[Effect]:  # noqa: C901 - one line per event
        match event:
            case Connected(peer):
                yield from self._on_connected(peer, now)
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
            case AddressesFound(addresses, origin):
                self.book.add(addresses, origin, now)
            case LeaveDecided(reason):
                self._is_leaving = True
                for peer in sorted(self._guests):
                    yield from self._dismiss(peer, Bye(reason))
            case TimerFired():
                yield from self._on_timer(now)

    def _on_connected(self, peer: PeerId, now: float) -> Iterator[Effect]:
        self.book.connected(peer)
        guest = self._guests.get(peer)
        if guest is None:
            guest = self._guests[peer] = Guest(deadline=now + self.config.hello_timeout)
        guest.is_connected = True
        if self._is_leaving:
            yield from self._dismiss(peer, Bye(hello.AWAY))
        elif len(self._guests) - len(self._members) > self.config.strangers_max:
            yield from self._dismiss(peer, Bye(hello.CROWDED))
        elif self.me < peer and guest.control is None:
            yield OpenControl(peer)

    def _on_disconnected(self, peer: PeerId, now: float) -> Iterator[Effect]:
        self.book.disconnected(peer, now)
        self._guests.pop(peer, None)
        yield from self._lose(peer, is_announced=False, reason="the connection broke")

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
            yield from self._dismiss(peer, None)
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
        if self._boots.is_replaced(peer, said.boot_id):
            reason = "two nodes run with one key: a home was copied; give one of them a home of its own"
            yield from self._refuse(peer, hello.COPIED_HOME, reason, now)
            return
        if peer not in self._members and len(self._members) >= self.config.members_max:
            yield from self._dismiss(peer, Bye(hello.CROWDED))
            return
        guest.has_said_hello = True
        if guest.former is not None:
            yield CloseControl(guest.former)
            guest.former = None
        self._boots.remember(peer, said.boot_id)
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
        elif bye.reason == hello.AWAY:
            self.book.put_off(peer, self.config.away_delay, now)
        elif bye.reason in (hello.REFUSED, hello.COPIED_HOME, hello.MISBEHAVED, hello.CROWDED):
            self.book.put_off(peer, self.config.refused_delay, now)
            yield Refusal(peer, by_us=False, reason=bye.text or bye.reason)
        yield from self._lose(peer, is_announced=True, reason=bye.reason)
        yield from self._dismiss(peer, None)

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

    def _refuse(self, peer: PeerId, reason: str, text: str, now: float) -> Iterator[Effect]:
        is_silent = reason == hello.NO_HELLO
        self.book.put_off(peer, self.config.away_delay if is_silent else self.config.refused_delay, now)
        yield Refusal(peer, by_us=True, reason=text)
        yield from self._dismiss(peer, Bye(reason, text))

    def _dismiss(self, peer: PeerId, bye: Bye | None) -> Iterator[Effect]:
        """End the connection to `peer`, once."""
        guest = self._guests.get(peer)
        if guest is None or guest.is_dismissed:
            return
        guest.is_dismissed = True
        if bye is not None:
            yield from self._lose(peer, is_announced=True, reason=bye.reason)
        yield Disconnect(peer, guest.control, bye)
        if not guest.is_connected:
            del self._guests[peer]  # The network will not tell of an end where it told of no beginning.

    def _lose(self, peer: PeerId, *, is_announced: bool, reason: str) -> Iterator[Effect]:
        if self._members.pop(peer, None) is not None:
            yield PeerLost(peer, is_announced, reason)

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
