"""However many peers, models and prompts come by, the router's memory has an end."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from federation.affinity import Affinity
from federation.circuit import Circuits
from federation.counts import Counts
from federation.prefix import Prefix
from federation.recent import Recent
from federation.reports import Reports
from federation.speeds import Speeds
from ledger.records import Load, ModelName
from p2p.peer import PeerId

TINY = ModelName("tiny")


@given(st.lists(st.integers(0, 9)), st.integers(1, 5))
def test_the_keys_used_last_are_kept(keys: list[int], size_max: int) -> None:
    recent: Recent[int, str] = Recent(size_max)
    for key in keys:
        recent.put(key, str(key))
    last_first = list(dict.fromkeys(reversed(keys)))
    assert list(recent) == last_first[:size_max][::-1]
    assert all(recent.get(key) == str(key) for key in list(recent))


def test_what_is_looked_at_stays() -> None:
    recent: Recent[str, int] = Recent(2)
    recent.put("old", 1)
    recent.put("new", 2)
    assert recent.get("old") == 1
    recent.put("newest", 3)
    assert list(recent) == ["old", "newest"]
    recent.drop("old")
    assert recent.get("old") is None


def test_peers_that_come_and_go_leave_nothing_behind_in_the_end() -> None:
    speeds, circuits, reports, counts = Speeds(), Circuits(), Reports(), Counts()
    for number in range(5000):
        peer = PeerId(f"peer {number}")
        speeds.decoded(peer, TINY, 10, 1.0, concurrency=1, now=number)
        circuits.failed(peer, TINY, began_at=number, now=number)
        reports.seen(peer, TINY, Load(4, 4), own=0, made_at=number)
        counts.stalls[peer] += 1
        counts.stalls[PeerId("stays")] += 1
    assert len(speeds) == len(circuits) == len(reports) == len(counts.stalls) == 4096
    assert counts.stalls[PeerId("stays")] == 5000


def test_a_peer_that_makes_models_up_pushes_out_its_own_only() -> None:
    speeds = Speeds()
    speeds.decoded(PeerId("honest"), TINY, 100, 1.0, concurrency=1, now=0.0)
    for number in range(5000):
        speeds.decoded(PeerId("liar"), ModelName(f"model {number}"), 10, 1.0, concurrency=1, now=0.0)
    assert len(speeds) == 65
    assert speeds.measured_alone(PeerId("honest"), TINY, 0.0) is not None


def test_a_flood_of_prompts_is_forgotten() -> None:
    affinity, rng = Affinity(), Random(0)
    for _ in range(400):
        prefix = Prefix(tuple(rng.randbytes(8) for _ in range(64)), 1 / 64)
        for peer in range(12):
            affinity.read(PeerId(str(peer)), TINY, prefix)
    assert len(affinity) == 16_384
    assert max(len(holders) for holders in affinity._holders._values.values()) == 8
