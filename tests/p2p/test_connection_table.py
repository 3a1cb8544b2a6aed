"""Which of several connections stays, as both of its ends decide alone."""

from __future__ import annotations

import itertools

import pytest

from p2p.connection_table import DIAL_TIME_MAX, ConnectionTable, Link
from p2p.peer import PeerId

A, B = PeerId("a"), PeerId("b")


def table_of(me: PeerId) -> ConnectionTable[Link]:
    return ConnectionTable(me)


def link_to(peer: PeerId, *, is_dialled: bool, since: float = 0.0) -> Link:
    return Link(peer, is_dialled, since)


def test_the_first_connection_is_the_one_in_use() -> None:
    table, link = table_of(A), link_to(B, is_dialled=True)
    assert table.add(link) == ("first", None)
    assert table.current(B) is link
    assert table.current(A) is None


@pytest.mark.parametrize(("a_first", "b_first"), list(itertools.product([True, False], repeat=2)))
def test_both_ends_keep_the_same_of_two_that_cross(a_first: bool, b_first: bool) -> None:
    for me, peer, sees_own_first in ((A, B, a_first), (B, A, not b_first)):
        table = table_of(me)
        links = [link_to(peer, is_dialled=sees_own_first), link_to(peer, is_dialled=not sees_own_first)]
        assert table.add(links[0]) == ("first", None)
        placement, retired = table.add(links[1])
        kept = table.current(peer)
        assert placement == "crossing"
        assert kept is not None
        assert kept.is_dialled == (me == A), "the one the smaller id dialled"
        assert retired is not None
        assert retired.is_dialled == (me == B)


def test_a_second_connection_by_the_same_end_replaces_the_first() -> None:
    for is_dialled in (True, False):
        table = table_of(A)
        old, new = link_to(B, is_dialled=is_dialled), link_to(B, is_dialled=is_dialled, since=0.1)
        table.add(old)
        assert table.add(new) == ("replacing", old)
        assert table.current(B) is new
        assert not table.remove(old), "it is not in use any more"


def test_a_connection_that_could_not_have_crossed_replaces_the_first() -> None:
    for is_dialled in (True, False):
        table = table_of(A)
        old = link_to(B, is_dialled=is_dialled)
        new = link_to(B, is_dialled=not is_dialled, since=DIAL_TIME_MAX + 0.1)
        table.add(old)
        assert table.add(new) == ("replacing", old)


def test_who_crosses_again_and_again_has_two_connections_at_most() -> None:
    for me, peer in ((A, B), (B, A)):
        table = table_of(me)
        table.add(link_to(peer, is_dialled=True))
        for _ in range(10):
            table.add(link_to(peer, is_dialled=False))
            assert len(table.all_of(peer)) <= 2


def test_the_peer_is_gone_with_its_last_connection() -> None:
    table = table_of(A)
    kept, retired = link_to(B, is_dialled=True), link_to(B, is_dialled=False)
    table.add(kept)
    table.add(retired)
    assert not table.remove(kept)
    assert table.current(B) is retired, "what is left is used again"
    assert table.remove(retired)
    assert table.current(B) is None
    assert not table.remove(retired)
