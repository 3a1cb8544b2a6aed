"""Members that lie: what they say is refused under its name, costs no more than their share; the rest agree.

`-s` shows how much memory honest nodes hold after it.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from ledger import beliefs
from ledger.entry import Entry, Place, sign_entry
from ledger.replica import Replica
from ledger.rumour import Status
from ledger.spread import Spread, SpreadConfig
from ledger.sync import PART_SIZE_MAX, answer_size
from ledger.sync_messages import Message
from ledger.version import Version
from p2p.peer import PeerId
from tests.sim.harm import LIAR, SIZE, harm_of, refusals
from tests.sim.holdings import held
from tests.sim.invariants import Watch
from tests.sim.liar import ENDING_THE_STREAM, LEDGER_LIES, PROBE_LIES, in_turn, make_liar
from tests.sim.node import Node, Settings
from tests.sim.people import SharedProofs, member
from tests.sim.world import World

KEYS = 1_000_000

STALE_FACTOR = 5
"""Old entries that a liar tells, for each that comes by two ways in an honest swarm."""

GROWTH_MAX = 1.05
"""What is owed at one moment differs."""


def swarm_with_liar(size: int = SIZE, settings: Settings | None = None) -> tuple[World, Watch, Node]:
    world = World(size, 1, settings=settings)
    watch = Watch(world)
    world.run(10)
    return world, watch, world[LIAR]


def honest(world: World) -> list[Node]:
    return [node for node in world if node.number != LIAR]


def agree(world: World) -> bool:
    """All honest ones hold the same, but for what the liar said of itself: it may tell each another thing."""
    liar = world[LIAR].peer
    views = set()
    for node in honest(world):
        state = node.replica.state
        views.add(tuple((owner, state.owner_digest(owner)) for owner in state.owners() if owner != liar))
    return len(views) == 1


@pytest.mark.parametrize("lie", sorted(LEDGER_LIES))
def test_a_lie_about_the_ledger_is_refused_under_its_name(lie: str) -> None:
    world, watch, liar = swarm_with_liar()
    lies, reason = LEDGER_LIES[lie]
    make_liar(liar, lies)
    for number, node in enumerate(honest(world)):
        node.write("model/mine", b"\x81\xa1n" + bytes([number]))
    world.run(30)
    assert agree(world)
    for number, node in enumerate(honest(world)):
        said = b"\x81\xa1n" + bytes([number])
        assert {other.holds(Place(node.peer, "model/mine")) for other in honest(world)} == {said}
    if lie in ENDING_THE_STREAM:
        assert world.network.cut_offs.total() > 0, "what nobody says by mistake ends the stream"
    if reason:
        refused = [node.replica.refusals[reason] for node in honest(world)]  # type: ignore[index]
        assert sum(count > 0 for count in refused) > len(refused) / 2, refused
    for node in honest(world):
        watch.check(node)
        # What one owner may make everybody keep, and no more.
        owned = node.replica.state.entries_of(liar.peer)
        assert len(owned) <= node.replica.state.limits.owner_entries_max


def test_what_is_told_again_and_again_is_what_is_stale() -> None:
    """Some is in any swarm, for news comes by many ways."""
    honest_one, liar = harm_of(None, duration=30), harm_of("old entries", duration=30)
    assert liar.refusals["stale"] > STALE_FACTOR * max(honest_one.refusals["stale"], 50)


def test_who_asks_without_end_is_answered_at_a_rate_and_the_rest_agree() -> None:
    burst, rate, duration = 32 * 1024, 16 * 1024, 2
    config = SpreadConfig(answer_burst=burst, answer_rate=rate)
    world, watch, liar = swarm_with_liar(settings=Settings(spread=config))
    make_liar(liar, LEDGER_LIES["endless digests"][0], is_endless=True)
    with answers_to(liar.peer) as answered:
        for node in honest(world):
            node.write("model/mine", b"\x81\xa1n" + bytes([node.number]))
        world.run(duration)
    assert len(answered) == len(honest(world))
    # The last answer may go beyond; what one owner says is never split.
    largest = PART_SIZE_MAX + 8 * 1024
    assert max(answered.values()) <= burst + rate * duration + largest
    assert min(answered.values()) > burst, "nothing was asked that the allowance refuses"
    assert agree(world)
    assert not world.network.cut_offs
    for node in honest(world):
        watch.check(node)


@contextmanager
def answers_to(peer: PeerId) -> Iterator[Counter[PeerId]]:
    """Counts the bytes that each node sends `peer` in answers."""
    answered: Counter[PeerId] = Counter()
    next_message = Spread.next_message

    def count(self: Spread, to: PeerId, now: float) -> Message | None:
        message = next_message(self, to, now)
        if to == peer and message is not None:
            answered[self._replica.me] += answer_size(message)
        return message

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Spread, "next_message", count)
        yield answered


def test_keys_told_as_fast_as_the_lines_take_them_fill_one_share() -> None:
    world, watch, liar = swarm_with_liar()
    before = refusals(world)["over_quota"]
    make_liar(liar, LEDGER_LIES["keys without end"][0], is_endless=True)
    world.run(0.5)
    assert refusals(world)["over_quota"] - before > 5_000
    assert agree(world)
    for node in honest(world):
        owned = node.replica.state.entries_of(liar.peer)
        assert len(owned) <= node.replica.state.limits.owner_entries_max
        watch.check(node)


class _EasyProofs(SharedProofs):
    """Reads a key in place of an entry, signed by who signed `pattern`: a million signatures take minutes."""

    def __init__(self, pattern: Entry) -> None:
        super().__init__()
        self._pattern = pattern

    def decode(self, encoded: bytes) -> Entry:
        return replace(self._pattern, key=encoded.decode())

    def is_signed(self, entry: Entry) -> bool:
        return True


def test_a_million_keys_of_one_owner_are_refused_and_leave_nothing_behind() -> None:
    pattern = sign_entry(member(LIAR), "", Version(1, 1), b"\x81\xa1n\x01")
    replica = Replica(member(0), _EasyProofs(pattern), "boot")
    most = replica.state.limits.owner_entries_max
    for number in range(2 * most):
        replica.receive(b"model/%d" % number, pattern.writer)
    replica.take_changes()
    blocks = sys.getallocatedblocks()
    for number in range(2 * most, KEYS - 2 * most):
        replica.receive(b"model/%d" % number, pattern.writer)
    # Tracing makes it five times as slow, so it sees the last ones only.
    assert sys.getallocatedblocks() - blocks < 5_000
    tracemalloc.start()
    for number in range(KEYS - 2 * most, KEYS):
        replica.receive(b"model/%d" % number, pattern.writer)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 16 * 1024
    assert replica.refusals == {"over_quota": KEYS - most}
    assert len(replica.state.entries_of(pattern.owner)) == most


@pytest.mark.parametrize("lie", sorted(PROBE_LIES))
def test_nobody_honest_is_given_up_for_long_while_a_member_lies(lie: str) -> None:
    """A complaint is taken back as soon as it reaches the accused: in a round trip or two."""
    harm = harm_of(lie, duration=30)
    assert harm.longest_doubt == 0.0
    assert harm.doubted == 0.0


@pytest.mark.parametrize("lie", sorted(PROBE_LIES))
def test_rumours_of_a_liar_make_nobody_offline_for_long(lie: str) -> None:
    world, watch, liar = swarm_with_liar()
    make_liar(liar, rumours=PROBE_LIES[lie])
    world.run(20)
    assert all(len(node.detector.beliefs.peers) <= len(world.members) for node in honest(world))
    world.kill(liar)
    world.run(15)
    for node in honest(world):
        watch.check(node)
        assert all(node.status(each.peer) is Status.ALIVE for each in honest(world) if each is not node)


def test_memory_stays_bounded_whatever_liars_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the swarm tells all lies in turn: what the honest hold stops growing."""
    # A tenth, so that it is full before the test begins and not after two minutes.
    monkeypatch.setattr(beliefs, "STRANGERS_MAX", beliefs.STRANGERS_MAX // 10)
    world, watch, _ = swarm_with_liar()
    lasting = sorted(LEDGER_LIES.keys() - set(ENDING_THE_STREAM))
    make_liar(world[LIAR], LEDGER_LIES["keys without end"][0])
    world.run(12)  # By then it has filled its share.
    make_liar(world[LIAR], in_turn(*lasting), PROBE_LIES["strangers live"])
    make_liar(world[6], in_turn(*ENDING_THE_STREAM), PROBE_LIES["everybody is gone"])
    world.run(8)
    victims = [node for node in honest(world) if node.number != 6]
    sizes, things = [], []
    tracemalloc.start()
    for _ in range(3):
        world.run(4)
        world.story.clear()
        world.proofs.forget()
        sizes.append(tracemalloc.get_traced_memory()[0] / 1024 / len(victims))
        things.append(sum(held(node) for node in victims))
    tracemalloc.stop()
    print(f"KB that each honest node holds more, after 4, 8 and 12 s: {[round(size) for size in sizes]}")
    print(f"things in all containers of their cores: {things}")
    assert max(sizes) < 512
    assert things[-1] <= GROWTH_MAX * things[0]
    for node in victims:
        watch.check(node)
        print(f"debts {node.spread.debts}, ledger {node.replica.state.size / 1024:.0f} KB")
        assert node.replica.state.size <= 2 * node.replica.state.limits.owner_size_max
