"""The invariants catch what they are there for: each test breaks one rule of a core, and must be stopped."""

from __future__ import annotations

import pytest

from ledger.beliefs import Beliefs
from ledger.state import LedgerState
from p2p.finder import Finder
from tests.sim.chaos import Chaos
from tests.sim.invariants import Watch
from tests.sim.liar import LEDGER_LIES, make_liar
from tests.sim.people import SharedProofs
from tests.sim.world import World


def befall(*faults: str, size: int = 5, duration: float = 60.0, within: float = 60.0) -> None:
    world = World(size, 1)
    watch = Watch(world)
    world.run(10)
    chaos = Chaos(world, 1)
    chaos.chosen = list(faults)
    chaos.run(duration)
    watch.end(within)


def test_the_faults_used_here_break_nothing_by_themselves() -> None:
    befall("write", "kill, disk lost", "split")


def test_a_forged_entry_that_is_let_in_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SharedProofs, "is_signed", lambda *_: True)
    world = World(5, 1)
    Watch(world)
    world.run(10)
    make_liar(world[4], LEDGER_LIES["forged owner"][0])
    with pytest.raises(AssertionError, match="never wrote"):
        world.run(20)


def test_a_replica_that_goes_back_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LedgerState, "_misfit", lambda *_: None)
    with pytest.raises(AssertionError, match="went back"):
        befall("write")


def test_a_deletion_that_is_forgotten_is_noticed() -> None:
    """A replica without the deletion takes back what was deleted, from whoever still has it."""
    world = World(5, 1)
    Watch(world)
    world.run(10)
    writer, forgetful = world[1], world[2]
    writer.write("model/gone", b"\x81\xa1n\x01")
    world.run(10)
    old = forgetful.replica.state.get(writer.peer, "model/gone")
    assert old is not None
    writer.write("model/gone", None)
    world.run(10)
    del forgetful.replica.state._owned[writer.peer].entries["model/gone"]
    forgetful.replica.receive(old.encoded, world[3].peer)
    with pytest.raises(AssertionError, match="went back"):
        forgetful.note_changes()


def test_a_digest_that_is_not_kept_up_is_noticed() -> None:
    world = World(4, 1)
    Watch(world)
    world.run(10)
    for node in world:
        node.detector.beliefs.digest._buckets[0] ^= 1
    with pytest.raises(AssertionError, match="the digest is not that of its claims"):
        world.run(10)


def test_a_suspect_that_is_never_judged_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Beliefs, "expire", lambda *_: None)
    world = World(4, 1)
    Watch(world)
    world.run(10)
    monkeypatch.setattr("ledger.deadlines.Deadlines.set", lambda *_: None)
    world.kill(world[2])
    with pytest.raises(AssertionError, match="a suspect without a deadline"):
        world.run(20)


def test_somebody_well_who_stays_offline_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is never dialled again after a split stays offline for the others."""
    world = World(6, 1)
    Watch(world)
    world.run(10)
    world.split(world.members[:3])
    world.run(30)
    monkeypatch.setattr(Finder, "next_dials", lambda *_: [])
    world.heal()
    with pytest.raises(AssertionError, match="and it is well"):
        world.run(120)


def test_replicas_that_never_become_equal_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.sync.SyncSession.begin_round", lambda _: None)
    monkeypatch.setattr("ledger.sync.SyncSession.push", lambda *_: None)
    with pytest.raises(AssertionError, match="different ledgers"):
        befall("write", duration=10, within=20)
