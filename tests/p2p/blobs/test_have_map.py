"""A have-map says what a set of numbers says, and its bytes say nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.blobs.errors import BadHaveMap
from p2p.blobs.have_map import HaveMap

counts = st.integers(0, 70)


@st.composite
def maps(draw: st.DrawFn) -> tuple[HaveMap, set[int]]:
    count = draw(counts)
    chunks = draw(st.sets(st.integers(0, count - 1))) if count else set()
    have = HaveMap(count)
    for chunk in chunks:
        have.add(chunk)
    return have, chunks


@given(maps())
def test_it_holds_what_was_added(made: tuple[HaveMap, set[int]]) -> None:
    have, chunks = made
    everything = set(range(have.chunk_count))
    assert {chunk for chunk in range(-9, have.chunk_count + 9) if chunk in have} == chunks
    assert list(have.missing()) == sorted(everything - chunks)
    assert have.count == len(chunks)
    assert have.is_full == (chunks == everything)


@given(maps())
def test_its_bytes_are_it_again(made: tuple[HaveMap, set[int]]) -> None:
    have, _ = made
    assert HaveMap.from_bytes_untrusted(have.to_bytes(), have.chunk_count) == have


@given(maps(), st.data())
def test_beyond_another_are_those_it_does_not_have(
    made: tuple[HaveMap, set[int]], data: st.DataObject
) -> None:
    have, chunks = made
    other = have.copy()
    dropped = data.draw(st.sets(st.sampled_from(sorted(chunks)))) if chunks else set()
    for chunk in dropped:
        assert other.discard(chunk)
    assert list(have.beyond(other)) == sorted(dropped)
    assert list(other.beyond(have)) == []
    assert have.count - other.count == len(dropped)


@given(counts)
def test_a_full_one_misses_nothing(count: int) -> None:
    full = HaveMap.full(count)
    assert full.is_full
    assert list(full.missing()) == []
    for chunk in range(count):
        assert full.discard(chunk)
    assert full == HaveMap(count)


def test_the_first_chunk_is_the_highest_bit() -> None:
    have = HaveMap(9)
    assert have.add(0)
    assert have.add(8)
    assert not have.add(8)
    assert have.to_bytes() == b"\x80\x80"


@pytest.mark.parametrize(
    ("data", "count"),
    [(b"", 1), (b"\0\0", 8), (b"\0", 9), (b"\x01", 7), (b"\xff\xff", 15), (b"\0", 0)],
)
def test_bytes_of_another_length_or_with_stray_bits_are_refused(data: bytes, count: int) -> None:
    with pytest.raises(BadHaveMap):
        HaveMap.from_bytes_untrusted(data, count)


@pytest.mark.parametrize("chunk", [-1, 3, 8])
def test_a_chunk_that_the_file_has_not_is_not_added(chunk: int) -> None:
    have = HaveMap(3)
    with pytest.raises(IndexError):
        have.add(chunk)
    assert have == HaveMap(3)
