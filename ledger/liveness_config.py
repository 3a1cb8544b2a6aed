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
    """From the SWIM paper. With the second direct try beside them, and every twentieth frame lost, one probe
    in 16,000 blames a healthy peer, which then refutes."""

    suspicion_min: float = 3.0
    """To refute takes a round trip; 3 s also survive a machine that swaps while it loads a model."""

    suspicion_per_doubling: float = 1.0
    """Times log2 of the swarm's size, as the way of a rumour grows. A guess."""

    push_fanout: int = 4
    """Peers that news of others goes to at once. Passed on by each, that reaches 98 % of any swarm; probes
    carry it to the rest. What a node finds out itself goes to all its neighbours."""

    push_burst: float = 256
    """Pushes at once of what we find out: eight peers at once, each told of to thirty neighbours."""

    pass_on_burst: float = 64
    """Pushes at once of what others told us: sixteen pieces of news, and more where a frame takes several."""

    push_rate: float = 16.0
    """Of each kind a second after that; the rest rides on probes. A probe costs six frames and a wrong
    suspicion two hundred, in all of a swarm of twenty: on machines too busy to answer in time those alone
    would keep them so for ever. A thousand nodes of which one dies each second push that much."""

    check_burst: float = 16
    """Times at once that one neighbour makes us ask another: half of all may vanish in one moment."""

    check_rate: float = 0.25
    """And a second after that, for the same reason. Thirty neighbours make eight, three times our own probes;
    who is not asked for that is asked in its turn."""

    lateness_max: float = 0.1
    """A timer this late means that we stood still, and that answers may be waiting unread."""

    forgiveness_burst: float = 10
    """Times at once that such a pause counts: a machine that swaps stands still again and again."""

    forgiveness_rate: float = 0.2
    """And a second after that. A machine whose timers are all late is slow; were each of them a pause, none
    of its questions would ever be over. One in five seconds gives them time, and no more than that."""

    wake_grace_max: float = 5.0
    """So long after a pause (or as long as the pause was, if that is shorter) we blame nobody: the others
    have closed their connections to us, and that is not their fault. To dial again takes a second or two."""

    mesh_size_max: int = 24
    """Peers believed alive up to which each is linked to each: `p2p` keeps at least so many neighbours.
    There, a peer that no helper has a link to is gone; among more, it merely has other neighbours."""

    summary_interval: float = 10.0
    """Between questions for what we missed. What rumours and pushes leave out is one claim in thousands, and
    a summary costs 300 bytes."""

    summary_spacing: float = 1.0
    """Between them when there is reason to ask: a newcomer's thirty links open at once, and the first
    answer holds what the others would say too."""

    claims_burst: int = 1024
    """Claims told at once: those a newcomer needs in a swarm of a thousand."""

    claims_rate: float = 80.0
    """Claims told a second in the long run, 5 KB of them: what the upkeep may cost while all is in flux."""

    news_burst: int = 2048
    """Claims believed of one neighbour at once: two on each of a thousand peers, which half of them cause
    when they vanish together."""

    news_rate: float = 20.0
    """And a second after that. A thousand nodes that each go and come once an hour make one; who tells more
    makes it up, and everybody would pass it on."""

    relays_max: int = 256
    """Pings for others under way. A thousand nodes ask for less; only somebody hostile asks for more."""
    relays_per_asker_max: int = 16
    """The same for one asker, so that it cannot take the others' share. Who has lost half of its thirty
    neighbours at once asks three helpers for each, which are some three requests for each helper."""

    def __post_init__(self) -> None:
        assert 0 < self.relay_timeout < self.indirect_timeout
        assert 0 < self.lateness_max < self.direct_timeout < self.probe_interval < self.suspicion_min
