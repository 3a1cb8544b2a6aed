"""Which connection to a peer counts: one per pair, however many cross.

Two nodes that dial each other at the same time make two connections. Both ends must
keep the same one without asking: the one dialled by the smaller peer id. The other is
*retired*: it takes no new streams and closes when those it carries are done, so
nothing under way is lost.

A second connection may also mean that the peer lost the first one (it restarted, its
machine slept) and we do not know yet. Then the new one *replaces* it:

    the same end dialled both          it would not have, with the first still up
    the first is older than a dial     crossing dials start while neither end is connected,
    may take                           so they finish within that time of each other
    there are two already              one dial each way is all that can cross

Reads no clock; `now` is an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeAlias, TypeVar

from p2p.peer import PeerId

DIAL_TIME_MAX = 10.0
"""Seconds from the first packet to a usable connection. A LAN takes 0.02, a slow machine at
its limit one or two; TCP's own patience with a silent address is minutes."""

Placement: TypeAlias = Literal["first", "crossing", "replacing"]


@dataclass(slots=True, eq=False)
class Link:
    """What the table knows of one connection."""

    peer: PeerId
    is_dialled: bool
    """By us."""
    since: float


LinkT = TypeVar("LinkT", bound=Link)


@dataclass(slots=True)
class ConnectionTable(Generic[LinkT]):
    """All connections, by peer; the one for new streams first."""

    me: PeerId
    _links: dict[PeerId, list[LinkT]] = field(default_factory=dict)

    def current(self, peer: PeerId) -> LinkT | None:
        """The connection new streams go over."""
        links = self._links.get(peer)
        return links[0] if links else None

    def all_of(self, peer: PeerId) -> Sequence[LinkT]:
        """Every connection to `peer`, retired ones too."""
        return tuple(self._links.get(peer, ()))

    def add(self, link: LinkT) -> tuple[Placement, LinkT | None]:
        """Place a new connection.

        Returns what it is, and of two that cross the one to retire, of two where one
        replaces the other the one to close.
        """
        links = self._links.setdefault(link.peer, [])
        if not links:
            links.append(link)
            return "first", None
        current = links[0]
        is_late = link.since - current.since > DIAL_TIME_MAX
        if is_late or current.is_dialled == link.is_dialled or len(links) > 1:
            links[0] = link
            return "replacing", current
        if link.is_dialled == (self.me < link.peer):
            links.insert(0, link)
            return "crossing", current
        links.append(link)
        return "crossing", link

    def remove(self, link: LinkT) -> bool:
        """Take an ended connection out; True if it was the last to its peer."""
        links = self._links.get(link.peer, [])
        if link in links:
            links.remove(link)
            if not links:
                del self._links[link.peer]
                return True
        return False
