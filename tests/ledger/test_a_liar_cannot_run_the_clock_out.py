"""An admin that lies about a clock holds one key with it, and no other; and all agree on that."""

from __future__ import annotations

import pytest

from ledger.entry import SWARM, sign_shared_entry
from ledger.errors import OverQuota
from ledger.version import VERSION_PART_MAX
from tests.ledger.honest_swarm import ADMIN, HonestSwarm
from tests.ledger.people import author

LYING_ADMIN = author(67, "admin", invite=212)
LIE = sign_shared_entry(LYING_ADMIN, "alias/a", VERSION_PART_MAX, b"\x80")


@pytest.fixture
def swarm() -> HonestSwarm:
    """In which all were told of a key at the last number there is."""
    swarm = HonestSwarm()
    swarm.tell(LIE, as_news=True)
    return swarm


def test_the_key_is_held_and_an_honest_admin_is_told_so(swarm: HonestSwarm) -> None:
    with pytest.raises(OverQuota, match="too far ahead"):
        swarm.nodes[ADMIN.peer].replica.put_shared("alias/a", b"\x81\xa1x\x01")
    assert swarm.honest_are_equal


def test_honest_admins_decide_on_about_every_other_key(swarm: HonestSwarm) -> None:
    swarm.nodes[ADMIN.peer].replica.put_shared("alias/b", b"\x81\xa1x\x01")
    swarm.run(5.0)
    stands = {node.replica.state.get(SWARM, "alias/b") for node in swarm.nodes.values()}
    assert [entry and (entry.writer, entry.version.epoch) for entry in stands] == [(ADMIN.peer, 1)]
    assert swarm.honest_are_equal
