"""Older and later versions of the program in one swarm: who knows more says more, and nobody minds."""

from __future__ import annotations

from ledger.entry import Place
from ledger.record_fields import decode_value_untrusted
from ledger.records import NODE_KEY
from ledger.rumour import Status
from ledger.sync_messages import News
from tests.sim.faults import Faults
from tests.sim.invariants import Watch
from tests.sim.world import World

FUTURE_ENTRY = b"\x63" + bytes(200)
"""Of format 99: what it says is for those who know it."""


def mixed(size: int = 6) -> World:
    """Every second node is of a later version; each frame goes through the encoders and decoders."""
    world = World(size, 1, Faults(is_exact_frames=True))
    for node in world.members[::2]:
        node.is_newer = True
    Watch(world)
    world.run(15)
    return world


def test_frames_and_records_with_unknown_fields_are_understood_as_far_as_they_go() -> None:
    world = mixed()
    assert world.all_hold(world, Status.ALIVE)
    assert world.are_ledgers_equal()
    assert world.network.cut_offs.total() == 0


def test_unknown_fields_of_a_record_reach_everybody_through_older_nodes() -> None:
    world = mixed()
    later, older, other = world.members[:3]
    later.put_record()
    # The two later ones have no connection: what passes between them goes through older ones.
    world.faults.cut |= {(later.peer, other.peer), (other.peer, later.peer)}
    later.write("model/new", b"\x81\xa6future\x01")
    world.run(10)
    for node in (older, other):
        record = node.holds(Place(later.peer, NODE_KEY))
        assert record is not None
        assert decode_value_untrusted(record)["from_the_future"] == ["?"]
        assert node.holds(Place(later.peer, "model/new")) == b"\x81\xa6future\x01"


def test_an_entry_of_a_later_format_is_counted_and_the_link_stays() -> None:
    world = mixed()
    later, older = world.members[:2]
    for _ in range(3):
        world.network._send_ledger(later.pipes[older.peer], News((FUTURE_ENTRY,)))
        world.run(1)
    assert older.replica.refusals["unknown_format"] == 3
    assert world.network.cut_offs.total() == 0
    later.write("model/known", b"\x81\xa1n\x01")
    world.run(5)
    assert older.holds(Place(later.peer, "model/known")) is not None
