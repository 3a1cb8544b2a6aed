"""Times and limits of the swarm's door: how long it waits, how many it takes.

The defaults are for a home: tens of machines, all of them connected to each other.
Durations are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass


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
    """A peer that said `away`, or that takes connections and says nothing, is left alone for this long:
    one comes back by itself, the other is busy coming back."""
    news_interval: float = 10.0
    """Between telling one member, by chance, where all the others are. A newcomer is told at once and dials;
    this is for those that can only be dialled, and a swarm of ten has told everybody in a minute or two."""
    strangers_max: int = 64
    """Connections without a HELLO yet. All have the swarm's secret, so this is no stranger's attack but
    a whole home that starts at once."""
    members_max: int = 512
    """Everybody is connected to everybody, which is right for a home and wrong far below this."""
    address_frames_max: int = 600
    """ADDRESSES from one peer in a minute. An honest one sends a few; ten a second cost us nothing yet."""

    def __post_init__(self) -> None:
        assert 0 < self.retry_delay < self.hello_timeout
