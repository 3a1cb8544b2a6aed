"""Chunks out of pieces, where to go on, and patience. No server, no clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.sources import download_core
from node.sources.download_core import Assembly, DownloadLimits, SpeedWatch, Stretch, wait_before
from p2p.blobs import manifest
from p2p.blobs.have_map import HaveMap

CHUNK = 10
FILE = bytes(range(47))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "CHUNK_SIZE", CHUNK)
    monkeypatch.setattr(download_core, "CHUNK_SIZE", CHUNK)


def having(*chunks: int) -> HaveMap:
    have = HaveMap(5)
    for chunk in chunks:
        have.add(chunk)
    return have


@pytest.mark.parametrize(
    ("have", "wanted"),
    [
        (having(), Stretch(0, 47)),
        (having(0), Stretch(10, 47)),
        (having(4), Stretch(0, 40)),
        (having(0, 2, 4), Stretch(10, 20)),
        (having(0, 1, 2, 3), Stretch(40, 47)),
        (having(0, 1, 2, 3, 4), None),
    ],
)
def test_the_first_stretch_that_is_missing_is_wanted(have: HaveMap, wanted: Stretch | None) -> None:
    assert Assembly(47).wanted(have) == wanted


def test_what_is_left_of_a_chunk_is_gone_on_with() -> None:
    assembly, have = Assembly(47), having()
    assert list(assembly.take(FILE[:14])) == [(0, FILE[:10])]
    have.add(0)
    assert assembly.wanted(have) == Stretch(14, 47)
    assert assembly.bytes_there(have) == 14
    assembly.go_to(14)
    assert list(assembly.take(FILE[14:20])) == [(1, FILE[10:20])]


def test_what_is_left_is_dropped_where_it_is_of_no_use() -> None:
    assembly, have = Assembly(47), having(0, 1)
    assembly.go_to(10)
    assert list(assembly.take(FILE[10:14])) == []
    # Somebody else brought the rest of that chunk.
    assert assembly.wanted(have) == Stretch(20, 47)
    assert assembly.bytes_there(have) == 20
    assembly.go_to(20)
    assert list(assembly.take(FILE[20:30])) == [(2, FILE[20:30])]


def test_the_last_chunk_counts_as_long_as_it_is() -> None:
    assert Assembly(47).bytes_there(having(4)) == 7
    assert Assembly(47).bytes_there(having(0, 1, 2, 3, 4)) == 47
    assert Assembly(40).bytes_there(HaveMap.full(4)) == 40


@given(st.integers(1, 60), st.data())
def test_pieces_of_any_size_make_the_same_chunks(size: int, data: st.DataObject) -> None:
    content = bytes(range(size))
    assembly = Assembly(size)
    chunks: list[tuple[int, bytes]] = []
    while assembly.position < size:
        length = data.draw(st.integers(1, size - assembly.position))
        chunks += assembly.take(content[assembly.position : assembly.position + length])
    assert [index for index, _ in chunks] == list(range(-(-size // CHUNK)))
    assert b"".join(chunk for _, chunk in chunks) == content


def test_slow_is_who_sends_little_in_a_window_of_waiting() -> None:
    watch = SpeedWatch(DownloadLimits(speed_min=100, speed_window=10))
    assert not watch.is_too_slow(0, 9.9)
    assert watch.is_too_slow(999, 0.1)
    assert not watch.is_too_slow(500, 5), "a new window"
    assert not watch.is_too_slow(500, 5)


def test_time_that_was_not_spent_waiting_does_not_count() -> None:
    watch = SpeedWatch(DownloadLimits(speed_min=100, speed_window=10))
    assert not any(watch.is_too_slow(1, 0.0) for _ in range(1000))


def test_waits_double_up_to_a_bound_and_are_spread() -> None:
    limits = DownloadLimits(wait_first=1, wait_max=10)
    assert [wait_before(n, limits, chance=1.0) for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]
    assert wait_before(1, limits, chance=0.0) == 0.5
    assert wait_before(10_000, limits, chance=0.0) == 5
