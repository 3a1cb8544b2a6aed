"""What failed in a simulation once, and from which seeds: each test says what was wrong.

A seed tells its story only as long as nobody adds a fault or moves a die. So what it led to is
put together here by hand, in the smallest swarm that shows it.
"""

from __future__ import annotations

from ledger.rumour import Status
from tests.sim.harm import LIAR
from tests.sim.invariants import Watch
from tests.sim.liar import PROBE_LIES, make_liar
from tests.sim.world import World

NOTICED_WITHIN = 6.0
"""Seconds until seven suspect a machine without power: two rounds of probes, and two timeouts."""


def test_after_a_liar_the_honest_notice_a_death_as_soon_as_ever() -> None:
    """Each complaint that a node had to take back made it wait longer before it blamed anybody.

    A liar that calls everybody offline, again and again, thus kept all at nine times their patience: a death
    then took 10 s to be noticed, and not 2. Now one complaint counts in the time that a suspicion takes.
    Found by comparing swarms with a liar and without, of which every seed shows it.
    """
    world = World(7, 1)
    world.run(10)
    make_liar(world[LIAR], rumours=PROBE_LIES["everybody is gone"])
    world.run(30)
    world.kill(world[LIAR])
    world.run(0.5)
    dead = world[3]
    world.power_off(dead)
    world.run(NOTICED_WITHIN)
    assert not any(node.status(dead.peer) is Status.ALIVE for node in world)


def test_seeds_208_and_239_a_question_about_somebody_forgotten_ends_in_time() -> None:
    """The bound of the simulator on questions was wrong, and no core.

    A node that lost its disk knows nobody by the ledger, so it forgets whoever's link ends. The question to
    it stays until its answer is due: for that long there are more questions than peers.
    """
    world = World(6, 1)
    watch = Watch(world)
    world.run(10)
    world.kill(world[2])
    world.run(5)
    fresh = world.restart(world[2], has_disk=False)
    world.connect_all([fresh], world)
    while not fresh.detector.beliefs.linked():
        world.run(0.001)
    assert len(fresh.detector._probing._questions) > 0
    for pipe in list(fresh.pipes.values()):
        world.network.break_connection(fresh, pipe.target)
    world.faults.island = frozenset({fresh.peer})
    world.run(0.01)
    forgotten = fresh.detector._probing._questions.keys() - fresh.detector.beliefs.peers.keys()
    assert forgotten
    watch.check(fresh)
    world.run(1.5)
    assert not forgotten & fresh.detector._probing._questions.keys()
