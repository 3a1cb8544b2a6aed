"""Times and limits of the swarm's door: how long it waits, how many it takes.

Durations are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2p import hello
from p2p.neighbours import NeighboursConfig


@dataclass(frozen=True, slots=True)
class AdmissionConfig:
    """Seconds and counts of the door."""

    hello_timeout: float = 5.0
    """From the connection to a valid HELLO: a few round trips, on a machine that is swapping."""
    retry_delay: float = 0.25
    """Before the control stream is opened again: the peer is just starting and does not answer it yet."""
    refused_delay: float = 300.0
    """A peer that refused us, or was refused, is left alone for this long: nothing changes before a
    person did something."""
    away_delay: float = 30.0
    """A peer that said `away` or `crowded`, or that takes connections and says nothing, is left alone for
    this long: one comes back by itself, the others are busy for a moment."""
    enough_delay: float = 60.0
    """Two of whom one let the other go leave each other alone for this long: there are others to dial."""
    swap_interval: float = 2.0
    """Between two processes under one key that take each other's place here. The ledger proves the copy
    to both, which takes a push or one round, a second at most; each swap is a loss to everybody above us."""
    news_interval: float = 10.0
    """Between telling one member, by chance, where all the others are. A newcomer is told at once and dials;
    this is for those that can only be dialled, and a swarm of ten has told everybody in a minute or two."""
    strangers_max: int = 64
    """Connections without a HELLO yet. All have the swarm's secret, so this is no stranger's attack but
    a whole home that starts at once."""
    neighbours: NeighboursConfig = field(default_factory=NeighboursConfig)
    """How many members it stays connected to."""
    address_frames_max: int = 600
    """ADDRESSES from one peer in a minute. An honest one sends a few; ten a second cost us nothing yet."""

    def pause_after(self, word: str) -> float:
        """How long two peers leave each other alone, of whom one said goodbye with `word`."""
        match word:
            case hello.REFUSED | hello.MISBEHAVED:
                return self.refused_delay
            case hello.ENOUGH:
                return self.enough_delay
            case hello.COPIED_HOME:
                return 2 * self.swap_interval  # The wait is between half of it and all.
            case hello.LEAVE:
                return 0.0  # It is forgotten, and may join again.
            case _:  # Also a word of a later version: it went on purpose, so do not call it right back.
                return self.away_delay

    def __post_init__(self) -> None:
        assert 0 < self.retry_delay < self.hello_timeout
