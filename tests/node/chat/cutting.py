"""An answer taken apart, in pieces of any size, put together again."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from hypothesis import strategies as st

from federation.backend import ToolCallDelta
from node.chat.answer_parser import AnswerParser, AnswerPiece

CUTS = st.lists(st.integers(0, 400), max_size=12)


class Outcome(NamedTuple):
    """All that came out of an answer."""

    content: str
    reasoning: str
    calls: list[tuple[str, str, str]]
    """Id, name, arguments."""


def cut(text: str, cuts: list[int]) -> list[str]:
    """`text` in pieces, some of them empty."""
    borders = [0, *sorted(min(place, len(text)) for place in cuts), len(text)]
    return [text[begin:end] for begin, end in pairwise(borders)]


def put_together(pieces: list[AnswerPiece]) -> Outcome:
    """What a client makes of `pieces`; asserts that calls come one after the other, ids and names first."""
    calls: list[tuple[str, str, str]] = []
    for delta in (delta for piece in pieces for delta in piece.tool_calls):
        if delta.index == len(calls):
            assert delta.id
            assert delta.name
            calls.append((delta.id, delta.name, delta.arguments))
            continue
        assert delta == ToolCallDelta(len(calls) - 1, arguments=delta.arguments)
        assert delta.arguments
        id_, name, arguments = calls[-1]
        calls[-1] = (id_, name, arguments + delta.arguments)
    return Outcome(
        "".join(piece.content for piece in pieces), "".join(piece.reasoning for piece in pieces), calls
    )


def outcome(parser: AnswerParser, pieces: list[str]) -> Outcome:
    """What `parser` makes of an answer in `pieces`."""
    return put_together([*(parser.feed(piece) for piece in pieces), parser.finish()])
