"""What happens at the door of the swarm, and what to do about it.

The events and effects of `admission.py`, which decides, and of `swarm.py`, which
carries out. Events are facts, effects are orders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType, TypeAlias

from p2p.hello import Addresses, Bye, Hello
from p2p.known_peer import Origin
from p2p.network import ConnectionEvent
from p2p.peer import PeerAddress, PeerId
from p2p.peer_events import PeerAdmitted, PeerLost

ControlId = NewType("ControlId", int)
"""One control stream; a peer may have a second before its first has ended."""


@dataclass(frozen=True, slots=True)
class ControlOpened:
    """A control stream with `peer` is up; either of us may have opened it."""

    peer: PeerId
    control: ControlId


@dataclass(frozen=True, slots=True)
class ControlEnded:
    """It is down, or could not be opened (`control` is None)."""

    peer: PeerId
    control: ControlId | None


@dataclass(frozen=True, slots=True)
class RuleBroken:
    """On a control stream came what the protocol does not allow; nothing more is read from it."""

    peer: PeerId
    control: ControlId
    rule: str


@dataclass(frozen=True, slots=True)
class HelloReceived:
    """`peer` says who it is; `unix_time` is our wall clock, for the expiry of its invite."""

    peer: PeerId
    control: ControlId
    hello: Hello
    unix_time: float


@dataclass(frozen=True, slots=True)
class AddressesReceived:
    peer: PeerId
    control: ControlId
    addresses: tuple[PeerAddress, ...]


@dataclass(frozen=True, slots=True)
class ByeReceived:
    peer: PeerId
    control: ControlId
    bye: Bye


@dataclass(frozen=True, slots=True)
class DialEnded:
    address: PeerAddress
    is_connected: bool


@dataclass(frozen=True, slots=True)
class AddressesFound:
    """From the token, the last run, the LAN, or the ledger."""

    addresses: tuple[PeerAddress, ...]
    origin: Origin


@dataclass(frozen=True, slots=True)
class PlaceGivenUp:
    """`peer` has left the swarm, as the ledger says: whoever was not connected then hears it so."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerWanted:
    """Somebody here wants to speak to `peer`, which is no member now."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class LeaveDecided:
    """Our own node stops: goodbye to everybody, and nobody new."""

    reason: str


@dataclass(frozen=True, slots=True)
class TimerFired:
    pass


Event: TypeAlias = (
    ConnectionEvent
    | ControlOpened
    | ControlEnded
    | RuleBroken
    | HelloReceived
    | AddressesReceived
    | ByeReceived
    | DialEnded
    | AddressesFound
    | PlaceGivenUp
    | PeerWanted
    | LeaveDecided
    | TimerFired
)


@dataclass(frozen=True, slots=True)
class Dial:
    """Answer with `DialEnded`."""

    address: PeerAddress


@dataclass(frozen=True, slots=True)
class OpenControl:
    """Answer with `ControlOpened`, or `ControlEnded` if it cannot be opened."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class SayHello:
    """Send our own HELLO."""

    control: ControlId


@dataclass(frozen=True, slots=True)
class Tell:
    control: ControlId
    message: Addresses


@dataclass(frozen=True, slots=True)
class CloseControl:
    """Another stream has taken its place."""

    control: ControlId


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the connection, after saying `bye` where there is still somebody to say it to."""

    peer: PeerId
    control: ControlId | None
    bye: Bye | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Somebody was not let in. For a person to read."""

    peer: PeerId
    by_us: bool
    reason: str


@dataclass(frozen=True, slots=True)
class CopySuspected:
    """Two processes seem to run under the key of `peer`. For a person to read."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class Unreached:
    """`peer` was wanted in vain; otherwise there would be a `PeerAdmitted`."""

    peer: PeerId


Effect: TypeAlias = (
    Dial
    | OpenControl
    | SayHello
    | Tell
    | CloseControl
    | Disconnect
    | Refusal
    | CopySuspected
    | Unreached
    | PeerAdmitted
    | PeerLost
)
