"""Times and limits of an address book: how soon a place is dialled again, how many are known.

Durations are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AddressBookConfig:
    """Seconds and counts of an address book."""

    backoff_first: float = 0.5
    """A node that restarts is listening again after about this."""
    backoff_max: float = 60.0
    """A peer is found within a minute of its return; a dial a minute costs nothing."""
    turn_delay: float = 0.5
    """How much longer the larger peer id waits. Two that hear of each other at the same moment would
    otherwise dial at the same moment, and one of the two connections would have to go."""
    dials_max: int = 20
    """At once. A refused dial takes milliseconds; one into the void its whole timeout."""
    dials_reserved: int = 4
    """Of those, for peers that somebody waits for: the rest may all be dialling into the void."""
    peers_max: int = 4096
    """The largest swarm: as many as its ledger has owners."""
    settle_time: float = 5.0
    """Who is a member for less, whoever ended it, counts as failed: it would be admitted and lost four times
    a second otherwise. A node that restarts is through after one or two, so it is found in a second."""
    hearsay_max: int = 1024
    """A quarter of the book: a newcomer of a large swarm needs a few dozen to begin with, and its ledger
    tells it of the rest."""
    hearsay_burst: int = 16
    """Dials at once of a newcomer that was just told where all the others are: a whole home, as a rule."""
    hearsay_rate: float = 2.0
    """Dials a second after that: whoever invents addresses makes us a nuisance to nobody."""
    hearsay_dials_max: int = 8
    """At once: the other half of those that nobody waits for goes to who is known better, even if all hearsay
    leads into the void."""
    hearsay_failures_max: int = 10
    """Tries, over four minutes, at all places of a peer that is hearsay. A true one is told again."""
    hearsay_time: float = 600.0
    """Or one try, if it was first heard of longer ago: with many of them it takes as long to try each."""
    places_per_peer_max: int = 8
    """LAN, VPN and IPv6 of a machine on two networks, and one that it has moved from."""

    def __post_init__(self) -> None:
        assert 0 < self.backoff_first <= self.backoff_max
        assert 0 <= self.dials_reserved < self.dials_max
