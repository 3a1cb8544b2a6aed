"""A simulated connection: two directions, each of which holds only so much unread.

Frames of the ledger are written one after the other, as fast as the line takes them, and
only while the reader keeps up: that is the back-pressure a stream gives. Probes are
written at once, and dropped where too many lie unread, as `prober.py` does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sim.node import Node

WINDOW = 256 * 1024
"""Bytes on their way or unread, per direction: yamux's window for a stream."""

BANDWIDTH = 1_250_000.0
"""Bytes a second: 10 Mbit/s, an upload line at home."""

LEAD_MAX = 0.005
"""Seconds of sending that are handed to the line at once."""

PROBES_UNREAD_MAX = 64
"""Probes that may lie unread: the sender keeps 32 of them, and its socket about as many."""


class Connection:
    """One of two nodes dialled the other. It is open until one of the two processes closes it, or dies."""

    __slots__ = ("back", "forth", "is_open")

    def __init__(self, dialler: Node, dialled: Node) -> None:
        self.is_open = True
        self.forth = Pipe(self, dialler, dialled)
        self.back = Pipe(self, dialled, dialler)


@dataclass(slots=True, eq=False)
class Pipe:
    """One direction."""

    connection: Connection
    source: Node
    target: Node
    unread_bytes: int = 0
    """Of the ledger: on their way, or lying there."""
    unread_probes: int = 0
    free_at: float = -math.inf
    """When the line has sent what it was given."""
    last_at: float = -math.inf
    """When the last frame of the ledger arrives: none behind it comes earlier."""
    is_waiting: bool = False
    """The sender goes on by itself: when the line is free, or something was read."""
    is_linked: bool = False
    """`source` has the streams of this connection open."""
    retries: int = 0
    """How often the ledger's stream was cut off and tried again."""

    @property
    def way_back(self) -> Pipe:
        return self.connection.back if self is self.connection.forth else self.connection.forth
