"""Events come out of a stream however it is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from node.attached.errors import BadAnswer
from node.attached.sse import EVENT_SIZE_MAX, SseDecoder

STREAM = (
    b": ping\n\ndata: one\n\nevent: x\r\ndata:two\r\ndata: more\r\n\r\nid: 4\n\n"
    b'data: caf\xc3\xa9\r\rerror: {"code":1}\n\ndata: [DONE]'
)
EVENTS = ["one", "two\nmore", "café", '{"error":{"code":1}}', "[DONE]"]


def test_a_stream_is_its_events_and_the_last_needs_no_end() -> None:
    decoder = SseDecoder()
    assert decoder.feed(STREAM) + decoder.finish() == EVENTS


@example([38, 38])
@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_it_does_not_matter_where_a_stream_is_cut(cuts: list[int]) -> None:
    decoder, said = SseDecoder(), []
    places = [0, *sorted(cuts), len(STREAM)]
    for start, end in pairwise(places):
        said += decoder.feed(STREAM[start:end])
    assert said + decoder.finish() == EVENTS


@pytest.mark.parametrize("piece", [b"x" * 1000, b"data: " + b"x" * 1000 + b"\n"], ids=["line", "lines"])
def test_an_event_without_end_is_not_kept(piece: bytes) -> None:
    decoder = SseDecoder()
    for _ in range(EVENT_SIZE_MAX // len(piece)):
        decoder.feed(piece)
    with pytest.raises(BadAnswer, match="bytes"):
        decoder.feed(piece * 10)


def test_many_small_events_are_fine() -> None:
    decoder = SseDecoder()
    for _ in range(EVENT_SIZE_MAX // 1000 + 2):
        assert decoder.feed(b"data: " + b"x" * 1000 + b"\n\n") == ["x" * 1000]
