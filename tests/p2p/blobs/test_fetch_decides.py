"""Fetch, called by hand: who is asked for what, and what becomes of it."""

from __future__ import annotations

from random import Random

import pytest

from p2p.blobs.fetch import Fetch
from p2p.blobs.fetch_events import (
    UNDER_WAY_MAX,
    Ask,
    BytesArrived,
    Cancel,
    ChunkArrived,
    ChunkRefused,
    ChunksLost,
    ChunkStored,
    ChunkWrong,
    DropSeeder,
    Effect,
    Event,
    FetchConfig,
    HashesKnown,
    LateBytesArrived,
    Refusal,
    SeederGained,
    SeederLost,
    SeederOffered,
    TimerFired,
)
from p2p.blobs.have_map import HaveMap
from p2p.blobs.manifest import CHUNK_SIZE
from p2p.peer import PeerId

ALICE, BOB, CAROL, ME = (PeerId(name) for name in ("alice", "bob", "carol", "me"))
COUNT = 40
SIZE = CHUNK_SIZE * (COUNT - 1) + 1000
CONFIG = FetchConfig()


class Course:
    """A fetch, its clock, and what it has ordered."""

    def __init__(self, count: int = COUNT, stored: tuple[int, ...] = ()) -> None:
        have = HaveMap(count)
        for chunk in stored:
            have.add(chunk)
        self.count = count
        self.fetch = Fetch(CHUNK_SIZE * count, have, ME, Random(1))
        self.now = 100.0
        self.under_way: dict[PeerId, list[int]] = {}
        self.tell(HashesKnown(range(count)))

    def tell(self, event: Event) -> list[Effect]:
        effects = self.fetch.handle(event, self.now)
        for effect in effects:
            match effect:
                case Ask(peer, chunk):
                    self.under_way.setdefault(peer, []).append(chunk)
                case Cancel(peer, chunk):
                    self.under_way[peer].remove(chunk)
        return effects

    def offer(self, peer: PeerId, *chunks: int) -> list[Effect]:
        has = HaveMap(self.count) if chunks else HaveMap.full(self.count)
        for chunk in chunks:
            has.add(chunk)
        return self.tell(SeederOffered(peer, has))

    def give(self, peer: PeerId, *, rate: float) -> None:
        """The oldest chunk that `peer` owes comes whole, at that speed, and is stored."""
        chunk = self.under_way[peer].pop(0)
        for _ in range(16):
            self.now += CHUNK_SIZE / 16 / rate
            self.tell(BytesArrived(peer, chunk, CHUNK_SIZE // 16))
        self.tell(ChunkArrived(peer, chunk))
        self.tell(ChunkStored(chunk))


def test_a_new_seeder_is_asked_for_as_little_as_keeps_it_busy() -> None:
    course = Course()
    effects = course.offer(ALICE)
    assert [type(effect) for effect in effects] == [Ask] * CONFIG.window_min


def test_a_seeder_is_asked_for_half_a_second_of_its_work() -> None:
    course = Course()
    course.offer(ALICE)
    while course.now < 101:
        course.give(ALICE, rate=CHUNK_SIZE * 11.5)
    assert len(course.under_way[ALICE]) == 6


def test_nobody_is_asked_for_more_than_a_window() -> None:
    course = Course(count=400)
    course.offer(ALICE)
    while course.now < 101:
        course.give(ALICE, rate=CHUNK_SIZE * 200)
    assert len(course.under_way[ALICE]) == CONFIG.window_max


def test_however_many_seeders_there_are_what_is_under_way_is_bounded() -> None:
    course = Course(count=400)
    for number in range(50):
        course.offer(PeerId(f"peer {number}"))
    assert sum(map(len, course.under_way.values())) == UNDER_WAY_MAX


def test_chunks_that_wait_for_the_disk_count_as_under_way() -> None:
    course = Course(count=400)
    course.offer(ALICE)
    for _ in range(UNDER_WAY_MAX):
        assert len(course.under_way[ALICE]) > 0
        course.tell(ChunkArrived(ALICE, course.under_way[ALICE].pop(0)))
    assert course.under_way[ALICE] == []
    assert course.fetch.why_waiting(course.now) == ""


def test_what_is_stored_is_not_asked_for() -> None:
    course = Course(stored=tuple(range(COUNT - 1)))
    assert course.offer(ALICE) == [Ask(ALICE, COUNT - 1)]


def test_a_chunk_is_asked_for_once_its_hash_is_known() -> None:
    fetch = Fetch(SIZE, HaveMap(COUNT), ME, Random(1))
    assert fetch.handle(SeederOffered(ALICE, HaveMap.full(COUNT)), 0.0) == []
    assert "hashes" in fetch.why_waiting(0.0)
    assert fetch.handle(HashesKnown([7]), 0.0) == [Ask(ALICE, 7)]


def test_a_seeder_is_asked_for_what_it_gained() -> None:
    course = Course()
    course.offer(ALICE, 1)
    assert course.under_way == {ALICE: [1]}
    course.tell(SeederGained(ALICE, [1, 2]))
    assert course.under_way == {ALICE: [1, 2]}


def test_what_another_one_comes_by_is_not_asked_of_who_alone_had_it() -> None:
    course = Course(count=4)
    course.offer(ALICE)
    begun, queued = course.under_way[ALICE]
    course.tell(BytesArrived(ALICE, begun, 1000))
    course.tell(SeederOffered(BOB, HaveMap(4)))
    assert course.tell(SeederGained(BOB, [begun, queued]))[0] == Cancel(ALICE, queued)
    assert course.under_way[BOB] == [queued]
    assert begun in course.under_way[ALICE], "what has begun comes from who began it"
    assert len(course.under_way[ALICE]) == 2, "it gives what only it has meanwhile"
    assert course.fetch.wasted_bytes == 0


def test_what_a_seeder_owes_it_gains_in_vain() -> None:
    course = Course(count=4)
    course.offer(ALICE)
    assert course.tell(SeederGained(ALICE, course.under_way[ALICE])) == []


def test_what_a_lost_seeder_owed_is_asked_of_another() -> None:
    course = Course(count=2)
    course.offer(ALICE)
    owed = list(course.under_way[ALICE])
    course.offer(BOB)
    cancelled = [Cancel(ALICE, chunk) for chunk in owed]
    assert course.tell(SeederLost(ALICE)) == [
        *cancelled,
        *(Ask(BOB, chunk) for chunk in course.under_way[BOB]),
    ]
    assert sorted(course.under_way[BOB]) == sorted(owed)


def test_a_wrong_chunk_drops_its_seeder_for_good_and_is_asked_of_another() -> None:
    course = Course(count=3)
    course.offer(ALICE)
    wrong = course.under_way[ALICE].pop(0)
    course.tell(ChunkArrived(ALICE, wrong))
    *cancelled, last = course.tell(ChunkWrong(ALICE, wrong))
    assert last == DropSeeder(ALICE)
    assert len(cancelled) == 2
    assert course.under_way[ALICE] == []
    assert course.offer(ALICE) == []
    course.offer(BOB)
    while course.under_way.get(BOB):
        course.give(BOB, rate=1e8)
    assert course.fetch.is_done
    assert course.fetch.wasted_bytes == CHUNK_SIZE


def test_a_busy_seeder_is_asked_later_and_later() -> None:
    course = Course(count=1)
    course.offer(ALICE)
    pauses = []
    for _ in range(8):
        course.under_way.clear()
        assert course.tell(ChunkRefused(ALICE, 0, Refusal.BUSY)) == []
        assert "busy" in course.fetch.why_waiting(course.now)
        pauses.append(course.fetch.wake_at - course.now)
        course.now = course.fetch.wake_at
        assert course.tell(TimerFired()) == [Ask(ALICE, 0)]
    assert CONFIG.rest_min / 2 <= pauses[0] <= CONFIG.rest_min
    assert CONFIG.rest_max / 2 <= pauses[-1] <= CONFIG.rest_max


def test_who_gives_a_little_of_each_chunk_and_refuses_the_rest_is_asked_later_and_later() -> None:
    course = Course(count=1)
    course.offer(ALICE)
    begun_at = course.now
    for _ in range(12):
        course.under_way.clear()
        course.tell(BytesArrived(ALICE, 0, 100))
        course.tell(ChunkRefused(ALICE, 0, Refusal.BUSY))
        course.now = course.fetch.wake_at
        course.tell(TimerFired())
    assert course.now - begun_at >= 6 * CONFIG.rest_max / 2


def test_a_chunk_that_a_seeder_does_not_have_is_not_asked_of_it_again() -> None:
    course = Course(count=1)
    course.offer(ALICE)
    course.tell(ChunkRefused(ALICE, 0, Refusal.NO_CHUNK))
    course.now += 3600
    assert course.tell(TimerFired()) == []
    assert "no peer has any of the 1 chunks" in course.fetch.why_waiting(course.now)
    assert course.tell(SeederGained(ALICE, [0])) == [Ask(ALICE, 0)]


def test_a_seeder_without_the_file_is_asked_for_nothing() -> None:
    course = Course(count=2)
    course.offer(ALICE)
    refused = course.under_way[ALICE].pop(0)
    assert course.tell(ChunkRefused(ALICE, refused, Refusal.GONE)) == [Cancel(ALICE, 1 - refused)]
    assert course.fetch.why_waiting(course.now) == "no peer has any of the 2 chunks that are missing"
    # That it has it again is no reason to ask it at once.
    assert course.offer(ALICE) == []
    course.now = course.fetch.wake_at
    assert [type(effect) for effect in course.tell(TimerFired())] == [Ask, Ask]


def test_a_silent_seeder_loses_everything_and_is_asked_again_later() -> None:
    course = Course(count=2)
    course.offer(ALICE)
    assert course.fetch.wake_at == course.now + CONFIG.look_interval
    course.now += CONFIG.silence_max - 0.01
    assert course.tell(TimerFired()) == []
    course.now += 0.02
    effects = course.tell(TimerFired())
    assert {type(effect) for effect in effects} == {Cancel}
    course.now = course.fetch.wake_at
    assert [type(effect) for effect in course.tell(TimerFired())] == [Ask, Ask]


def test_who_gives_a_byte_now_and_then_is_silent() -> None:
    course = Course(count=1)
    course.offer(ALICE)
    for _ in range(int(CONFIG.silence_max)):
        course.now += 1.01
        course.tell(BytesArrived(ALICE, 0, 100))
        course.tell(TimerFired())
    assert course.under_way[ALICE] == []


def slow_and_idle(begun_bytes: int) -> Course:
    """Alice gave at a chunk a second, and owes the last two; Bob has nothing to do, and is fast."""
    course = Course(count=12)
    course.offer(ALICE, 10, 11)
    course.give(ALICE, rate=CHUNK_SIZE)
    course.tell(BytesArrived(ALICE, course.under_way[ALICE][0], begun_bytes)) if begun_bytes else None
    course.offer(BOB, *range(10))
    while course.under_way[BOB]:
        course.give(BOB, rate=CHUNK_SIZE * 20)
        course.tell(BytesArrived(ALICE, course.under_way[ALICE][0], 1)) if begun_bytes else None
    return course


def test_an_idle_seeder_takes_what_a_slow_one_has_not_begun() -> None:
    course = slow_and_idle(0)
    chunk = course.under_way[ALICE][0]
    effects = course.tell(SeederGained(BOB, [chunk]))
    assert effects == [Cancel(ALICE, chunk), Ask(BOB, chunk)]
    assert course.fetch.wasted_bytes == 0


def test_where_no_more_may_be_under_way_an_idle_seeder_takes_over_all_the_same() -> None:
    course = Course(count=400)
    course.offer(ALICE)
    course.offer(BOB)
    while course.now < 101:
        course.give(ALICE, rate=CHUNK_SIZE * 200)
        course.give(BOB, rate=CHUNK_SIZE * 200)
    assert [len(course.under_way[peer]) for peer in (ALICE, BOB)] == [CONFIG.window_max] * 2
    assert course.offer(CAROL) == []
    # Both have become slow, and each gives enough not to be silent.
    begun = [course.under_way[peer][0] for peer in (ALICE, BOB)]
    for _ in range(20):
        course.now += 1.0
        for peer, chunk in zip((ALICE, BOB), begun, strict=True):
            course.tell(BytesArrived(peer, chunk, 64 * 1024))
    effects = course.tell(TimerFired())
    assert [type(effect) for effect in effects] == [Cancel, Ask]
    assert course.under_way[CAROL]
    assert sum(map(len, course.under_way.values())) == UNDER_WAY_MAX


def test_what_is_nearly_there_is_not_asked_for_twice() -> None:
    course = slow_and_idle(CHUNK_SIZE // 4)
    assert course.tell(SeederGained(BOB, course.under_way[ALICE])) == []


def test_at_the_end_what_a_very_slow_one_has_begun_is_asked_for_twice_and_the_loser_is_cancelled() -> None:
    course = slow_and_idle(1000)
    chunk = course.under_way[ALICE][0]
    course.now += 4.0  # It has stopped.
    assert course.tell(SeederGained(BOB, [chunk])) == [Ask(BOB, chunk)]
    course.tell(TimerFired())
    course.under_way[BOB].clear()
    assert course.tell(ChunkArrived(BOB, chunk)) == [Cancel(ALICE, chunk)]
    assert course.fetch.wasted_bytes >= 1000
    course.tell(ChunkStored(chunk))
    assert course.fetch.is_done
    # What crossed the cancellation is counted, no more.
    wasted = course.fetch.wasted_bytes
    assert course.tell(LateBytesArrived(ALICE, 500)) == []
    assert course.fetch.wasted_bytes == wasted + 500


def test_a_chunk_that_came_from_elsewhere_is_not_needed_any_more() -> None:
    course = Course(count=1)
    course.offer(ALICE)
    assert course.tell(ChunkStored(0)) == [Cancel(ALICE, 0)]
    assert course.fetch.is_done


def test_what_the_disk_lost_is_asked_for_again() -> None:
    course = Course(count=2, stored=(0, 1))
    assert course.offer(ALICE) == []
    assert course.tell(ChunksLost([1])) == []
    assert not course.fetch.is_done
    assert course.tell(HashesKnown([0, 1])) == [Ask(ALICE, 1)]


@pytest.mark.parametrize("seeders", [1, 5])
def test_not_everybody_runs_to_the_same_seeder_for_a_rare_chunk(seeders: int) -> None:
    asked = set()
    for seed in range(40):
        fetch = Fetch(CHUNK_SIZE, HaveMap(1), ME, Random(seed))
        for number in range(seeders):
            fetch.handle(SeederOffered(PeerId(f"peer {number}"), HaveMap.full(1)), 0.0)
        (effect,) = fetch.handle(HashesKnown([0]), 0.0)
        assert isinstance(effect, Ask)
        asked.add(effect.peer)
    assert len(asked) == seeders
