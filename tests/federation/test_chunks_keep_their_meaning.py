"""Chunks that are merged or cut for the wire amount to the same answer."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.backend import Chunk, TokenLogprob, ToolCallDelta
from federation.chunk_sizing import (
    CHUNK_LENGTH_MAX,
    CHUNK_LOGPROBS_MAX,
    CHUNK_TOKENS_MAX,
    CHUNK_VECTOR_SIZE_MAX,
    merged,
    pieces,
)
from federation.infer import FRAME_SIZE_MAX
from federation.infer_codec import encode
from p2p.framing import encode_frame

TEXT = st.text("ab🙂", max_size=8) | st.just("x" * (CHUNK_LENGTH_MAX - 4)) | st.just("y" * 3000)
NAME = st.sampled_from(["", "", "f"])
TOKENS = st.integers(0, CHUNK_TOKENS_MAX + 20).map(lambda count: tuple(range(count)))
"""By their number alone: what matters is that none is lost, and in which order they are."""
TOPS = st.lists(st.sampled_from([(), ((b"t", -0.5),) * 20]), min_size=1, max_size=4)
"""The likeliest tokens of each place, over and over."""
CALL = st.builds(ToolCallDelta, st.integers(0, 1), NAME, NAME, TEXT)


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    ids = draw(TOKENS)
    tops = cycle(draw(TOPS)) if draw(st.booleans()) else ()
    logprobs = tuple(TokenLogprob(b"%d" % id_, -0.5, top) for id_, top in zip(ids, tops, strict=False))
    return Chunk(
        choice=draw(st.integers(0, 1)),
        token_ids=ids,
        text=draw(st.just("") | TEXT),
        reasoning=draw(st.just("") | TEXT),
        tool_calls=draw(st.just(()) | st.lists(CALL, max_size=3).map(tuple)),
        logprobs=logprobs,
        vector=draw(st.just(b"") | st.just(b"1234") | st.just(b"1234" * 3000)),
        finish_reason=draw(st.none() | st.just("length")),
    )


def story(said: Iterable[Chunk]) -> dict[str, Any]:
    """What one choice amounts to: each character with its kind, in order; ids, each with its probability."""
    order: list[tuple[Any, ...]] = []
    for chunk in said:
        order += [("reasoning", each) for each in chunk.reasoning]
        order += [("text", each) for each in chunk.text]
        for call in chunk.tool_calls:
            if call.id or call.name:
                order.append(("call", call.index, call.id, call.name))
            order += [("arguments", call.index, each) for each in call.arguments]
        if chunk.finish_reason is not None:
            order.append(("end", chunk.finish_reason))
    return {
        "order": order,
        "ids": [each for chunk in said for each in chunk.token_ids],
        "logprobs": [each for chunk in said for each in chunk.logprobs],
        "vector": b"".join(chunk.vector for chunk in said),
    }


def is_small(chunk: Chunk) -> bool:
    texts = [chunk.text, chunk.reasoning, *(call.arguments for call in chunk.tool_calls)]
    return (
        sum(map(len, texts)) <= CHUNK_LENGTH_MAX
        and len(chunk.token_ids) <= CHUNK_TOKENS_MAX
        and sum(1 + len(each.top) for each in chunk.logprobs) <= CHUNK_LOGPROBS_MAX
        and len(chunk.vector) <= CHUNK_VECTOR_SIZE_MAX
    )


@given(chunks(), chunks())
def test_merging_two_chunks_changes_nothing_and_stays_small(first: Chunk, second: Chunk) -> None:
    both = merged(first, second)
    if both is not None:
        assert first.choice == second.choice == both.choice
        assert story([both]) == story([first, second])
        assert is_small(both)


@given(chunks())
def test_cutting_a_chunk_changes_nothing_and_leaves_small_ones(chunk: Chunk) -> None:
    cut = list(pieces(chunk))
    assert story(cut) == story([chunk])
    assert all(is_small(each) and each.choice == chunk.choice for each in cut)
    *parts, last = cut
    assert {part.is_cut for part in parts} <= {bool(chunk.token_ids)}
    assert not last.is_cut
    for each in cut:
        assert len(each.logprobs) in (0, len(each.token_ids))
        assert len(encode_frame(encode(each), FRAME_SIZE_MAX)) < 8 * 1024


def test_what_is_small_is_passed_on_as_it_is() -> None:
    chunk = Chunk(0, (1,), "a", reasoning="b")
    assert list(pieces(chunk)) == [chunk]


def test_what_is_merged_with_a_part_is_as_unfinished() -> None:
    whole, part, last = Chunk(0, (1,), "a"), Chunk(0, (2,), "", is_cut=True), Chunk(0, (), "b")
    both = merged(whole, part)
    assert both == Chunk(0, (1, 2), "a", is_cut=True)
    assert merged(both, last) == Chunk(0, (1, 2), "ab")


def test_chunks_of_two_choices_are_never_merged() -> None:
    assert merged(Chunk(0, (1,), "a"), Chunk(1, (2,), "b")) is None


CALLING = (ToolCallDelta(0, "c", "f"),)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Chunk(0, (1,), "text"), Chunk(0, (2,), "", reasoning="thought")),
        (Chunk(0, (1,), "", tool_calls=CALLING), Chunk(0, (2,), "text")),
        (Chunk(0, (1,), "", tool_calls=CALLING), Chunk(0, (2,), "", reasoning="thought")),
        (Chunk(0, (1,), "a"), Chunk(0, (2,), "b", logprobs=(TokenLogprob(b"b", -1),))),
    ],
)
def test_what_came_later_never_moves_to_the_front(first: Chunk, second: Chunk) -> None:
    assert merged(first, second) is None


def test_a_thought_and_what_follows_it_are_merged() -> None:
    both = merged(Chunk(0, (1,), "", reasoning="so"), Chunk(0, (2,), "yes", tool_calls=CALLING))
    assert both == Chunk(0, (1, 2), "yes", reasoning="so", tool_calls=CALLING)


def test_the_arguments_of_one_call_become_one_piece() -> None:
    begun = Chunk(0, (1,), "", tool_calls=(ToolCallDelta(0, "c", "f", '{"a"'),))
    more = Chunk(0, (2,), "", tool_calls=(ToolCallDelta(0, arguments=": 1}"),))
    assert merged(begun, more) == Chunk(0, (1, 2), "", tool_calls=(ToolCallDelta(0, "c", "f", '{"a": 1}'),))


def test_two_calls_stay_two_pieces() -> None:
    other = Chunk(0, (2,), "", tool_calls=(ToolCallDelta(1, "d", "f"),))
    both = merged(Chunk(0, (1,), "", tool_calls=CALLING), other)
    assert both is not None
    assert both.tool_calls == (*CALLING, ToolCallDelta(1, "d", "f"))
