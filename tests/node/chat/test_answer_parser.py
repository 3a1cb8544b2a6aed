from __future__ import annotations

from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from federation.backend import ToolCallDelta
from node.chat.answer_parser import AnswerParser, AnswerPiece
from node.chat.call_parser import CallParser
from node.chat.formats.choice import FORMATS
from node.chat.formats.tool_format import ToolFormat
from node.chat.reasoning import ReasoningMode, ReasoningSplitter
from tests.node.chat.cutting import CUTS, cut, outcome

CALL = ("f", {"city": "Oslo"})


def parser(format_: ToolFormat, mode: ReasoningMode) -> AnswerParser:
    return AnswerParser(ReasoningSplitter(mode), CallParser(format_.read, {"f"}, lambda index: f"id{index}"))


def test_pieces_come_out_as_soon_as_they_are_certain() -> None:
    reading = parser(FORMATS["hermes"], "begun")
    assert reading.feed("Hm").reasoning == "Hm"
    assert reading.feed(".</thi") == AnswerPiece(reasoning=".")
    assert reading.feed("nk>\n\n") == AnswerPiece()
    assert reading.feed("Hello <to").content == "Hello "
    assert reading.feed("day>") == AnswerPiece(content="<today>")
    assert reading.feed('<tool_call>\n{"name": "f", "arguments": ') == AnswerPiece()
    assert reading.feed("{").tool_calls == (ToolCallDelta(0, "id0", "f", "{"),)
    assert reading.feed("}").tool_calls == (ToolCallDelta(0, arguments="}"),)
    assert reading.feed("}\n</tool_call>") == AnswerPiece()
    assert reading.finish() == AnswerPiece()


def test_an_answer_calls_from_the_first_call_on() -> None:
    reading = parser(FORMATS["hermes"], "never")
    reading.feed('<tool_call>\n{"name": "f", "arguments": ')
    before = reading.has_tool_calls
    reading.feed("{")
    assert (before, reading.has_tool_calls) == (False, True)


def test_what_is_held_back_comes_out_at_the_end() -> None:
    reading = parser(FORMATS["hermes"], "possible")
    assert reading.feed("<thi") == AnswerPiece()
    assert reading.finish() == AnswerPiece(content="<thi")
    reading = parser(FORMATS["generic"], "possible")
    assert reading.feed('[{"name": "f') == AnswerPiece()
    assert reading.finish() == AnswerPiece(content='[{"name": "f')


def test_an_answer_without_tools_is_content_as_it_comes() -> None:
    reading = AnswerParser(ReasoningSplitter("never"))
    assert reading.feed("<tool_call>") == AnswerPiece(content="<tool_call>")
    assert reading.finish() == AnswerPiece()
    assert not reading.has_tool_calls


PIECES = st.sampled_from(
    [
        *(format_.written.text([CALL]) for format_ in FORMATS.values()),
        *("<think>", "</think>", "<th", "</th", "\n", "Hello", "<tool_call>", "[", "{", "```"),
    ]
)


@settings(deadline=None)
@given(
    st.sampled_from(list(FORMATS.values())),
    st.sampled_from(["never", "possible", "begun"]),
    st.lists(PIECES, max_size=8).map("".join),
    CUTS,
)
def test_an_answer_means_the_same_however_it_is_cut(
    format_: ToolFormat, mode: str, text: str, cuts: list[int]
) -> None:
    chosen = cast(ReasoningMode, mode)
    whole = outcome(parser(format_, chosen), [text])
    assert outcome(parser(format_, chosen), cut(text, cuts)) == whole
    assert outcome(parser(format_, chosen), list(text)) == whole
