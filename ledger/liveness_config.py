"""The numbers of the failure detector, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LivenessConfig:
    """Durations in seconds, for a home network with nodes that may be busy."""

    probe_interval: float = 0.4
    """Between probes. Of three nodes each is probed every 0.8 s by both others. It costs a node 340 bytes/s,
    whatever the swarm's size."""

    direct_timeout: float = 0.3
    """Hundreds of times a LAN's round trip: what it must cover is a busy Python process."""

    indirect_timeout: float = 0.3
    """More, through helpers. Then the peer is suspect: of three nodes, at most 1.4 s after it froze."""

    relay_timeout: float = 0.18
    """How long a helper waits before it says that it heard nothing either. With the way there and
    back (50 ms each at worst) still within `indirect_timeout`."""

    helpers: int = 3
    """From the SWIM paper. If every twentieth frame is lost, one probe in 1,600 blames a healthy peer, which
    then refutes."""

    suspicion_min: float = 3.0
    """To refute takes a round trip; 3 s also survive a machine that swaps while it loads a model."""

    suspicion_per_doubling: float = 1.0
    """Times log2 of the swarm's size, as the way of a rumour grows. A guess."""

    push_fanout: int = 4
    """Peers that news goes to at once. Passed on by each, that reaches 98 % of any swarm; probes
    carry it to the rest."""

    lateness_max: float = 0.1
    """A timer this late means that we stood still, and that answers may be waiting unread."""

    relays_max: int = 256
    """Pings for others under way. A thousand nodes ask for less; only somebody hostile asks for more."""

    def __post_init__(self) -> None:
        assert 0 < self.relay_timeout < self.indirect_timeout
        assert 0 < self.lateness_max < self.direct_timeout < self.probe_interval < self.suspicion_min
