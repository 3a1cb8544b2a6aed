"""Whoever is due is found, whatever changed meanwhile, and nothing piles up."""

from __future__ import annotations

from itertools import permutations
from math import inf
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from p2p.due_queue import DueQueue
from p2p.peer import PeerId

A, B = PeerId("a"), PeerId("b")

CHANGES = st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 9), st.integers(0, 9)))
"""Whom it is about, when it is due or that it is taken out, and the time at which the queue is asked."""


@given(CHANGES)
def test_it_says_what_a_plain_dictionary_would(changes: list[tuple[str, int | None, int]]) -> None:
    queue, plain, now = DueQueue(), dict[PeerId, float](), 0.0
    for name, at, asked_at in changes:
        peer, now = PeerId(name), max(now, float(asked_at))
        if at is None:
            queue.take_out(peer)
            plain.pop(peer, None)
        else:
            queue.put(peer, float(at))
            plain[peer] = float(at)
        assert set(queue.due(now)) == {peer for peer, time in plain.items() if time <= now}
        assert queue.sample(9, now, Random(1)) in [list(each) for each in permutations(queue.due(now))]
        assert queue.wake_at == min((time for time in plain.values() if time > now), default=inf)


def test_who_is_due_stays_so_until_put_off() -> None:
    queue = DueQueue()
    queue.put(A, 1.0)
    queue.put(B, 1.0)
    assert list(queue.due(1.0)) == list(queue.due(2.0)) == [A, B]
    queue.put(A, 9.0)
    assert list(queue.due(2.0)) == [B]
    assert queue.wake_at == 9.0


def test_changes_of_mind_do_not_pile_up() -> None:
    queue = DueQueue()
    for number in range(10_000):
        queue.put(A, 1000.0 + number)
    assert len(queue._heap) < 100
