"""Whom a node tells of what, and with whom it compares: the core alone."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from ledger.entry import Author, Entry, Place, sign_entry
from ledger.proof import Proofs
from ledger.replica import Replica
from ledger.spread import (
    Complaint,
    CutOff,
    LastWordSaid,
    LinkLost,
    LinkOpened,
    MessageReceived,
    SendDue,
    Spread,
    SpreadConfig,
    TimerFired,
    Wrote,
)
from ledger.state import BUCKETS
from ledger.sync import PART_SIZE_MAX
from ledger.sync_messages import Entries, News, Owners, Root
from ledger.version import Version
from p2p.peer import PeerId
from tests.ledger.people import FOUNDER, STRANGER, author

AUTHORS = sorted((author(number) for number in range(1, 13)), key=lambda each: each.peer)
ME, *OTHERS = AUTHORS
PEERS = [each.peer for each in OTHERS]
CONFIG = SpreadConfig()


class World:
    """One node's spreading, with the smallest id, linked to all others."""

    def __init__(self) -> None:
        self.doubtful: set[PeerId] = set()
        self.replica = Replica(ME, Proofs(FOUNDER.public_key), "boot")
        self.spread = Spread(self.replica, lambda peer: peer in self.doubtful, Random(1))
        for peer in PEERS:
            self.spread.handle(LinkOpened(peer), 0.0)
            self.fetch(peer)

    def fetch(self, peer: PeerId, now: float = 0.0) -> list[object]:
        """All there is for `peer`."""
        return list(iter(lambda: self.spread.next_message(peer, now), None))

    def told(self) -> set[PeerId]:
        """Who gets news now."""
        return {peer for peer in PEERS if any(isinstance(said, News) for said in self.fetch(peer))}

    def rounds(self, count: int) -> list[PeerId]:
        """With whom the next `count` rounds are."""
        partners: list[PeerId] = []
        for _ in range(count):
            effects = self.spread.handle(TimerFired(), self.spread.wake_at)
            partners += [effect.peer for effect in effects if isinstance(effect, SendDue)]
            assert [self.fetch(peer) for peer in partners[-1:]] == [[Root(self.replica.state.root_digest())]]
        return partners


@pytest.fixture
def world() -> World:
    return World()


def write(who: Author, counter: int, value: bytes = b"\x80") -> Entry:
    return sign_entry(who, "node", Version(1, counter), value)


def answer_size(world: World, peer: PeerId, now: float = 0.0) -> int:
    """Bytes of entries that `peer` gets when it says that it has none."""
    nothing = Owners(tuple(range(BUCKETS)), {})
    world.spread.handle(MessageReceived(peer, nothing), now)
    answers = [said for said in world.fetch(peer, now) if isinstance(said, Entries)]
    return sum(len(each) for answer in answers for each in answer.encoded)


@pytest.mark.parametrize("is_closed", [True, False])
def test_who_opens_its_link_again_and_again_gets_no_more_for_it(world: World, is_closed: bool) -> None:
    for number in range(12):
        world.replica.put(f"model/{number}", b"\xc5\x3a\x98" + bytes(15_000))
    sent = 0
    for _ in range(100):
        if is_closed:
            world.spread.handle(LinkLost(PEERS[0]), 0.0)
        world.spread.handle(LinkOpened(PEERS[0]), 0.0)
        sent += answer_size(world, PEERS[0])
    assert CONFIG.answer_burst < sent < CONFIG.answer_burst + PART_SIZE_MAX
    # Later it is answered as before.
    world.spread.handle(LinkLost(PEERS[0]), 0.0)
    world.spread.handle(LinkOpened(PEERS[0]), 60.0)
    assert answer_size(world, PEERS[0], 60.0) > 12 * 15_000


def test_who_used_up_its_allowance_is_answered_on_when_some_of_it_has_come_back(world: World) -> None:
    for number in range(12):
        world.replica.put(f"model/{number}", b"\xc5\x3a\x98" + bytes(15_000))
    for _ in range(100):
        world.spread.handle(LinkOpened(PEERS[0]), 0.0)
        answer_size(world, PEERS[0])
    assert not world.fetch(PEERS[0])
    later = world.spread.wake_at
    assert SendDue(PEERS[0]) in world.spread.handle(TimerFired(), later)
    assert any(isinstance(said, Entries) for said in world.fetch(PEERS[0], later))


def test_a_link_begins_with_a_round_and_one_side_is_enough() -> None:
    for me, other in ((ME, PEERS[0]), (OTHERS[0], ME.peer)):
        spread = Spread(Replica(me, Proofs(FOUNDER.public_key), "boot"), lambda _: False, Random(1))
        effects = spread.handle(LinkOpened(other), 0.0)
        assert effects == ([SendDue(other)] if me.peer < other else [])


def test_a_write_is_pushed_to_a_few_who_are_alive(world: World) -> None:
    world.doubtful = set(PEERS[:4])
    world.replica.begin()
    world.spread.handle(Wrote(Place(ME.peer, "boot")), 0.0)
    told = world.told()
    assert len(told) == CONFIG.push_peers
    assert told.isdisjoint(world.doubtful)


def test_news_is_passed_on_and_not_to_whom_it_came_from(world: World) -> None:
    effects = world.spread.handle(MessageReceived(PEERS[0], News((write(OTHERS[5], 1).encoded,))), 0.0)
    assert SendDue(PEERS[0]) in effects
    told = world.told()
    assert len(told) == CONFIG.push_peers
    assert PEERS[0] not in told


def test_what_is_no_news_is_not_passed_on(world: World) -> None:
    entry = write(OTHERS[5], 1)
    world.spread.handle(MessageReceived(PEERS[0], Entries((entry.encoded,))), 0.0)
    world.spread.handle(MessageReceived(PEERS[1], News((entry.encoded,))), 0.0)
    assert world.told() == set()


def test_what_its_owner_shows_us_is_passed_on_like_news(world: World) -> None:
    """A newcomer wrote before it had a link: only its neighbours' rounds would find it."""
    entry = write(OTHERS[0], 1)
    world.spread.handle(MessageReceived(PEERS[0], Entries((entry.encoded,))), 0.0)
    assert len(world.told()) == CONFIG.push_peers


def test_last_words_go_to_everybody(world: World) -> None:
    world.replica.begin()
    world.doubtful = set(PEERS[:4])
    world.spread.handle(LastWordSaid("boot"), 0.0)
    assert all(world.spread.owes_news(peer) for peer in PEERS)
    assert world.told() == set(PEERS)


def test_rounds_go_to_the_living_and_now_and_then_to_the_doubtful(world: World) -> None:
    world.doubtful = set(PEERS[:2])
    partners = world.rounds(400)
    doubtful = [peer for peer in partners if peer in world.doubtful]
    assert len(doubtful) == 400 // CONFIG.doubtful_every
    assert set(partners) == set(PEERS)


def test_with_nobody_alive_rounds_go_on(world: World) -> None:
    world.doubtful = set(PEERS)
    assert set(world.rounds(200)) == set(PEERS)


def test_rounds_come_once_a_second_and_not_in_step(world: World) -> None:
    times = []
    for _ in range(100):
        times.append(world.spread.wake_at)
        world.spread.handle(TimerFired(), world.spread.wake_at)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert 0.8 <= min(gaps) < max(gaps) <= 1.2
    assert world.spread.handle(TimerFired(), times[-1]) == [], "a timer that comes early is none"


def test_a_refusal_is_told_once_for_each_reason(world: World) -> None:
    stranger = sign_entry(author(5, founder=STRANGER), "node", Version(1, 1), b"\x80")
    later = b"\x09" + stranger.encoded[1:]
    effects = world.spread.handle(MessageReceived(PEERS[0], Entries((stranger.encoded, later) * 3)), 0.0)
    complaints = [effect.refused.reason for effect in effects if isinstance(effect, Complaint)]
    assert complaints == ["not_a_member", "unknown_format"]
    assert world.replica.refusals == {"not_a_member": 3, "unknown_format": 3}


def test_who_passes_on_a_forgery_is_cut_off_and_what_came_before_it_stays(world: World) -> None:
    good, other = write(OTHERS[5], 1), write(OTHERS[6], 1)
    forged = other.encoded[:-1] + bytes([other.encoded[-1] ^ 1])
    effects = world.spread.handle(MessageReceived(PEERS[0], News((good.encoded, forged))), 0.0)
    complaint, cut_off = effects[-2:]
    assert isinstance(complaint, Complaint)
    assert complaint.refused.reason == "bad_signature"
    assert isinstance(cut_off, CutOff)
    assert world.replica.state.get(OTHERS[5].peer, "node") == good
    assert world.told()


def test_who_sends_no_entry_at_all_is_cut_off(world: World) -> None:
    (effect,) = world.spread.handle(MessageReceived(PEERS[0], Entries((b"\x02 no entry",))), 0.0)
    assert isinstance(effect, CutOff)


def test_a_link_that_is_gone_is_owed_nothing(world: World) -> None:
    world.replica.begin()
    world.spread.handle(LastWordSaid("boot"), 0.0)
    for peer in PEERS:
        world.spread.handle(LinkLost(peer), 0.0)
    assert world.spread.debts == 0
    assert world.spread.next_message(PEERS[0], 0.0) is None
    assert world.spread.handle(MessageReceived(PEERS[0], Root(bytes(16))), 0.0) == []
