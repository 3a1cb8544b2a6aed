"""Faults: what the simulated network and the machines do to nodes. (The vocabulary is TigerBeetle's.)

All of it may change while the simulation runs. What befalls one node at a moment (killed,
paused, restarted) is an action of the `World`; here is what goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2p.peer import PeerId


@dataclass(slots=True)
class Faults:
    """Durations in seconds, shares between 0 and 1."""

    delay_min: float = 0.002
    delay_max: float = 0.05
    """One way. A quiet LAN has a tenth of `delay_min`; `delay_max` is Wi-Fi that two rooms share."""
    loss: float = 0.0
    """Share of what is sent that gets lost, of every protocol."""
    is_tcp_exact: bool = False
    """A lost frame of the ledger is not gone: it comes `retransmission` later, and all behind it waits.
    That is what streams do. Without it whole frames vanish, which is harder on the cores."""
    retransmission: float = 0.2
    """Linux's smallest retransmission timeout. Dials, addresses and goodbyes, that nobody would say again,
    are always late and never gone."""
    is_reordering: bool = True
    """Frames of the ledger overtake each other, as probes always do. No stream does so; no core may mind."""
    replay: float = 0.0
    """Share of frames that come once more, up to a second later."""
    is_exact_frames: bool = False
    """Each message is encoded and decoded again on its way. Slow, and what nodes do."""
    cut: set[tuple[PeerId, PeerId]] = field(default_factory=set)
    """Nothing of the first reaches the second; neither is told."""
    island: frozenset[PeerId] = frozenset()
    """These and the others do not reach each other."""
    slow: dict[PeerId, float] = field(default_factory=dict)
    """Nodes that do everything so much later."""
    probe_cost: float = 0.0
    """Seconds that each probe takes of the one processor that all nodes share. The more they say, the later
    it is heard."""

    def separate(self, sender: PeerId, receiver: PeerId) -> bool:
        """Whether nothing gets from `sender` to `receiver`."""
        if self.island and (sender in self.island) != (receiver in self.island):
            return True
        return bool(self.cut) and (sender, receiver) in self.cut

    def heal(self) -> None:
        """Everybody reaches everybody again."""
        self.cut.clear()
        self.island = frozenset()
