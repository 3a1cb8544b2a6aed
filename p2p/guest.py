"""One connected peer at the swarm's door, admitted or not: what the door remembers of it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from p2p.admission_events import ControlId
from p2p.connection_table import DIAL_TIME_MAX

CONTROL_STREAMS_MAX = 32
"""Of one connection. One is opened every 0.25 s for 5 s at most, and one more for dials that cross."""


@dataclass(slots=True)
class Guest:
    """Goes with its connection."""

    deadline: float
    """Its HELLO is due by then."""
    is_connected: bool = False
    """The network has said so. A stream may be seen before its connection."""
    is_dialled: bool = False
    """By us."""
    control: ControlId | None = None
    former: ControlId | None = None
    """The control stream before, until HELLO comes on the present one: a peer that has not seen that
    one would take the end of this for our death."""
    has_said_hello: bool = False
    """On the present control stream."""
    is_dismissed: bool = False
    """Goodbye was said, or it is gone; the end of the connection is on its way."""
    open_at: float = inf
    """When to open the control stream (again), where that is our turn."""
    control_streams: int = 0
    """Opened since it came."""
    since: float = -inf
    boot_id: str = ""
    _minute_ends_at: float = -inf
    _address_frames: int = 0

    @property
    def wake_at(self) -> float:
        """When something is due: our stream, or its HELLO."""
        if self.is_dismissed:
            return inf
        return min(self.open_at, inf if self.has_said_hello else self.deadline)

    def is_same_process(self, boot_id: str, now: float) -> bool:
        """Whether `boot_id` is what was said before. Later than a dial may take, another one is a lie: until
        then the dial of a restarted process looks like one that crosses (`connection_table.py`)."""
        is_same = self.boot_id in ("", boot_id) or now - self.since <= DIAL_TIME_MAX
        self.boot_id = boot_id
        return is_same

    def address_frames(self, now: float) -> int:
        """How many ADDRESSES came this minute, with the one that came now."""
        if now >= self._minute_ends_at:
            self._minute_ends_at, self._address_frames = now + 60.0, 0
        self._address_frames += 1
        return self._address_frames
