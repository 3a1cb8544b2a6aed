"""The invariants catch what they are there for: each test breaks one rule of a core, and must be stopped."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from math import inf
from typing import Any

import pytest

from ledger.beliefs import Beliefs
from ledger.deadlines import Deadlines
from ledger.failure_detector import FailureDetector
from ledger.liveness_config import LivenessConfig
from ledger.probing import Probing, _Question
from ledger.relay import Relay, Relays
from ledger.rumour import Claim, Status
from ledger.spread import Spread
from ledger.state import LedgerState
from ledger.sync import SyncSession, _Difference
from p2p.address_book import AddressBook
from p2p.allowance import Allowance
from p2p.finder import Finder
from p2p.known_peer import Origin
from p2p.peer import PeerAddress, PeerId
from tests.sim.chaos import Chaos
from tests.sim.faults import Faults
from tests.sim.frame_sizes import address_of
from tests.sim.invariants import LOSS_BORNE, Watch, measure
from tests.sim.liar import LEDGER_LIES, make_liar
from tests.sim.people import SharedProofs, member
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


# Nobody is called offline without a reason, or for long; nobody dead is believed in.


def lose_and_delay() -> None:
    """Every twentieth frame is lost, and half of all questions are answered late."""
    world = World(8, 1, Faults(loss=LOSS_BORNE, delay_max=0.2))
    Watch(world)
    world.run(200)
    assert len(world.said(Status.SUSPECT)) > 10
    assert not world.said(Status.OFFLINE)


def wake_up_alone() -> None:
    """A laptop sleeps just after its connections broke, for much longer than any suspicion lasts."""
    world = World(6, 1)
    watch = Watch(world)
    world.run(10)
    sleeper = world[4]
    for pipe in list(sleeper.pipes.values()):
        world.network.break_connection(sleeper, pipe.target)
    world.run(0.01)
    assert sleeper.status(world[0].peer) is Status.SUSPECT
    world.pause(sleeper)
    world.run(20)
    world.resume(sleeper)
    world.run(5)
    watch.end(60)


def lose_power() -> None:
    """A machine is gone, and does not come back."""
    world = World(6, 1)
    Watch(world)
    world.run(10)
    world.power_off(world[3])
    world.run(60)
    assert all(node.status(world[3].peer) is Status.OFFLINE for node in world)


def be_blamed() -> None:
    """Somebody who is well is called offline, a while after a cut, by one who is well."""
    world = World(6, 1)
    Watch(world)
    world.run(10)
    world.split([world[5]])
    world.run(1)
    world.heal()
    world.run(10)
    observer, peer = world[1], world[2].peer
    held = observer.detector.beliefs.peers[peer].claim
    observer.detector.beliefs.learn(peer, Claim(held.incarnation, Status.OFFLINE), observer.now)
    world.run(20)
    assert observer.status(peer) is Status.ALIVE


def test_what_is_done_to_nodes_here_makes_nobody_blame_anybody_by_itself() -> None:
    lose_and_delay()
    wake_up_alone()
    lose_power()
    be_blamed()


def test_a_suspect_without_time_to_refute_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = LivenessConfig().suspicion_min
    be_due = Deadlines.set
    monkeypatch.setattr(Deadlines, "set", lambda self, peer, at: be_due(self, peer, at - wait + 0.01))
    with pytest.raises(AssertionError, match="offline for no reason"):
        lose_and_delay()


def test_own_lateness_that_is_not_forgiven_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FailureDetector, "_forgive_own_lateness", lambda *_: None)
    with pytest.raises(AssertionError, match="offline for no reason"):
        wake_up_alone()


def test_the_dead_who_are_never_given_up_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    be_due = Deadlines.set
    monkeypatch.setattr(Deadlines, "set", lambda self, peer, at: be_due(self, peer, at + 600.0))
    with pytest.raises(AssertionError, match="still believes in"):
        lose_power()


def test_somebody_well_who_is_never_asked_again_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is called offline hears of it from whoever asks next, and takes it back."""
    monkeypatch.setattr(Beliefs, "answer_complaint", lambda *_, **__: None)
    monkeypatch.setattr(Beliefs, "refute", lambda *_: None)
    with pytest.raises(AssertionError, match="and it is well"):
        be_blamed()


# Bounds.

LEAKS: dict[str, tuple[type, str, Callable[[Any, int], object]]] = {
    # By what there comes to be too much of: each call of this method of this core leaves something behind.
    "questions": (Probing, "ask", lambda core, n: core._questions.update({peer(n): _Question(-n, 0.0, inf)})),
    "relays": (Relays, "add", lambda core, n: core._relays.update({-n: Relay(peer(n), n, peer(n), inf)})),
    "rumours": (Beliefs, "hear_itself", lambda core, n: core._urgent._told.update({peer(n): 0})),
    "idle rumours": (Beliefs, "hear_itself", lambda core, n: core._idle._told.update({peer(n): 0})),
    "strangers": (
        Beliefs,
        "note_strangers",
        lambda core, n: core._strangers.update({peer(n): Claim(0, Status.ALIVE)}),
    ),
    "allowances for claims": (FailureDetector, "_afford", lambda core, n: allow(core._credit, n)),
    "allowances for news": (Spread, "_on_message", lambda core, n: allow(core._news, n)),
    "allowances for answers": (Spread, "_on_message", lambda core, n: allow(core._answers, n)),
    "debts": (SyncSession, "handle", lambda core, n: core._holdings.add(peer(n))),
    "differences": (
        SyncSession,
        "begin_round",
        lambda core, n: core._fruitless.update({peer(n): _Difference(None, None)}),
    ),
    "known peers": (
        AddressBook,
        "connected",
        lambda core, n: core.add([PeerAddress(peer(n), address_of(n))], Origin.LEARNED, 0.0),
    ),
}

LEFT_BEHIND = {"debts": 200}
"""By a call; elsewhere 20, which is more than a small swarm accounts for."""


def peer(number: int) -> PeerId:
    return member(1000 + number).peer


def allow(allowances: Any, number: int) -> None:
    allowances._by_peer[peer(number)] = Allowance(1.0, 0.0, 0.0)


def leak(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    core, name, add = LEAKS[what]
    method, numbers = getattr(core, name), count()

    def leaky(self: object, *args: object, **rest: object) -> object:
        result = method(self, *args, **rest)
        for _ in range(LEFT_BEHIND.get(what, 20)):
            add(self, next(numbers) % 600)
        return result

    monkeypatch.setattr(core, name, leaky)


@pytest.mark.parametrize("what", LEAKS)
def test_what_is_never_forgotten_is_noticed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leak(monkeypatch, what)
    with pytest.raises(AssertionError, match=rf"\d {what}, more than"):
        befall("kill", "write", "pause", duration=20)


def test_each_bound_is_shown_to_catch_something() -> None:
    world = World(3, 1)
    world.run(2)
    assert measure(world[0]).keys() == LEAKS.keys()
