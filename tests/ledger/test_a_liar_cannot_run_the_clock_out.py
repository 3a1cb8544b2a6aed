"""An admin that lies about the swarm's clock pushes it on by a step for each lie, and no further."""

from __future__ import annotations

import pytest

from ledger.entry import SWARM, sign_shared_entry
from ledger.proof import Proofs
from ledger.replica import Replica
from ledger.version import LAMPORT_AHEAD_MAX, VERSION_PART_MAX
from tests.ledger.honest_swarm import ADMIN, HONEST, HonestSwarm
from tests.ledger.people import FOUNDER, author

LYING_ADMIN = author(67, "admin", invite=212)
LIES = [
    sign_shared_entry(LYING_ADMIN, "alias/a", number * LAMPORT_AHEAD_MAX, b"\x80") for number in range(1, 6)
]


@pytest.fixture
def swarm() -> HonestSwarm:
    """In which all believed five lies, each of which went as far as it could."""
    swarm = HonestSwarm()
    for lie in LIES:
        swarm.tell(lie, as_news=True)
    assert all(node.replica.state.lamport == 5 * LAMPORT_AHEAD_MAX for node in swarm.nodes.values())
    return swarm


def test_a_clock_too_far_ahead_is_refused(swarm: HonestSwarm) -> None:
    swarm.tell(sign_shared_entry(LYING_ADMIN, "alias/a", VERSION_PART_MAX, b"\x80"), as_news=True)
    assert swarm.refused("too_far_ahead") == [1] * len(HONEST)


def test_honest_admins_decide_on(swarm: HonestSwarm) -> None:
    admin = swarm.nodes[ADMIN.peer].replica
    admin.put_shared("alias/a", b"\x81\xa1x\x01")
    swarm.run(5.0)
    stands = {node.replica.state.get(SWARM, "alias/a") for node in swarm.nodes.values()}
    assert [entry and entry.writer for entry in stands] == [ADMIN.peer]


def test_who_starts_again_believes_what_it_believed(swarm: HonestSwarm) -> None:
    admin = swarm.nodes[ADMIN.peer].replica
    again = Replica(ADMIN, Proofs(FOUNDER.public_key), "another boot")
    assert again.restore(admin.snapshot()) == []
    assert again.state.root_digest() == admin.state.root_digest()
    assert again.state.lamport == admin.state.lamport
