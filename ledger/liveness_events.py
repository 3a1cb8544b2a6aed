"""What the failure detector is told, and what it orders.

Events are facts, effects are orders. `failure_detector.py` turns one into the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ledger.probe import Message
from ledger.rumour import Status
from p2p.peer import PeerId


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """We can exchange probes with `peer` from now on."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The link to `peer` ended. That alone is no evidence: its connection may be well."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class ByeSaid:
    """`peer` said goodbye."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class FailureReported:
    """`peer` could not be reached: its connection broke, or a request to it failed. This is evidence."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class DoubtRaised:
    """Something was expected of `peer` and did not come. No evidence: it may be slow."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeersKnown:
    """The ledger knows exactly these peers."""

    peers: frozenset[PeerId]


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """`message` came in over the link to `peer`."""

    peer: PeerId
    message: Message


@dataclass(frozen=True, slots=True)
class TimerFired:
    """`wake_at` is here."""


Event: TypeAlias = (
    LinkOpened
    | LinkLost
    | ByeSaid
    | FailureReported
    | DoubtRaised
    | PeersKnown
    | MessageReceived
    | TimerFired
)


@dataclass(frozen=True, slots=True)
class SendMessage:
    """Send `message` over the link to `peer`, or drop it."""

    peer: PeerId
    message: Message


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """`peer` is believed to be something else than before."""

    peer: PeerId
    status: Status


Effect: TypeAlias = SendMessage | StatusChanged
