from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from node.chat.answer_parser import AnswerParser
from node.chat.call_parser import CallParser
from node.chat.formats.choice import FORMATS
from node.chat.formats.tool_format import ToolFormat
from node.chat.reasoning import ReasoningSplitter
from tests.node.chat.cutting import CUTS, Outcome, cut, outcome

unhurried = settings(deadline=None)
"""A busy machine is no fault."""

F, G = ("f", {"city": "Oslo"}), ("get_all-2", {"deep": [{"a": "}]</tool_call>```"}, None, -1.5e3]})
EVERY = pytest.mark.parametrize("format_", FORMATS.values(), ids=list(FORMATS))
IN_TEXT = pytest.mark.parametrize(
    "format_",
    [format_ for format_ in FORMATS.values() if not format_.start_marker],
    ids=lambda format_: format_.name,
)

HELD_MAX = 600
"""Characters: more than any pattern can hold back, with all its whitespace, names and ids."""


def parser(format_: ToolFormat) -> CallParser:
    return CallParser(format_.read, {"f", "get_all-2"}, lambda index: f"id{index}")


def read(format_: ToolFormat, *pieces: str) -> Outcome:
    return outcome(AnswerParser(ReasoningSplitter("never"), parser(format_)), list(pieces))


def of(index: int, call: tuple[str, object]) -> tuple[str, str, str]:
    return (f"id{index}", call[0], json.dumps(call[1]))


@EVERY
def test_calls_are_read_as_they_are_written(format_: ToolFormat) -> None:
    assert read(format_, format_.written.text([F])) == Outcome("", "", [of(0, F)])
    assert read(format_, format_.written.text([F, G])) == Outcome("", "", [of(0, F), of(1, G)])


@EVERY
def test_text_without_a_call_is_content(format_: ToolFormat) -> None:
    text = 'See [1], {"name": "f"} and `<tool_call>`: [TOOL_CALLS] is ```python\n{}\n``` <|python_tag|>.\n'
    assert read(format_, text) == Outcome(text, "", [])


@IN_TEXT
def test_text_may_come_before_and_between_and_after_calls(format_: ToolFormat) -> None:
    text = f"One.\n{format_.written.text([F])}\n and {format_.written.text([G])}\nDone. "
    assert read(format_, text) == Outcome("One.\nand Done. ", "", [of(0, F), of(1, G)])


@EVERY
def test_a_call_of_a_tool_there_is_not_is_content(format_: ToolFormat) -> None:
    text = format_.written.text([("rm", {"all": True})])
    assert read(format_, text) == Outcome(text, "", [])


@EVERY
def test_arguments_that_are_no_object_are_content(format_: ToolFormat) -> None:
    text = format_.written.text([("f", "[1]")])
    assert read(format_, text) == Outcome(text, "", [])


@EVERY
def test_arguments_that_break_off_stay_and_the_rest_is_content(format_: ToolFormat) -> None:
    text = format_.written.head("f") + '{"city": Oslo'
    assert read(format_, format_.written.opening + text) == Outcome("Oslo", "", [("id0", "f", '{"city": ')])


@EVERY
def test_an_answer_that_reached_its_length_keeps_what_it_has_of_a_call(format_: ToolFormat) -> None:
    text = format_.written.opening + format_.written.head("f") + '{"city": "Os'
    assert read(format_, text) == Outcome("", "", [("id0", "f", '{"city": "Os')])


@EVERY
def test_an_end_that_is_cut_short_is_no_content(format_: ToolFormat) -> None:
    whole = format_.written.text([F])
    ends = len(format_.written.after_arguments + format_.written.closing)
    for length in range(len(whole) - ends, len(whole)):
        assert read(format_, whole[:length]) == Outcome("", "", [of(0, F)])


@EVERY
def test_a_call_that_does_not_end_as_it_should_gives_its_rest_back(format_: ToolFormat) -> None:
    text = format_.written.opening + format_.written.head("f") + "{}" + "} but"
    # Llama's calls end with their own brace.
    rest = "but" if format_.name == "llama" else "} but"
    assert read(format_, text) == Outcome(rest, "", [("id0", "f", "{}")])


@EVERY
def test_arguments_come_out_as_they_are_generated(format_: ToolFormat) -> None:
    reading = parser(format_)
    reading.feed(format_.written.opening + format_.written.head("f"))
    pieces = ['{"ci', 'ty": "O', "s", 'lo"', "}"]
    deltas = [delta for piece in pieces for delta in reading.feed(piece)[1]]
    assert [delta.arguments for delta in deltas] == pieces
    assert (deltas[0].id, deltas[0].name) == ("id0", "f")


@pytest.mark.parametrize(
    ("name", "text", "calls"),
    [
        ("hermes", '<tool_call>{"name":"f","arguments":{}}</tool_call>', 1),
        ("hermes", '<tool_call>\n\n {\n "name" : "f" ,\n "arguments" : {} } \n</tool_call>\n', 1),
        ("llama", '<|python_tag|>{"name": "f", "parameters": {}}', 1),
        ("llama", '\n{"name": "f", "parameters": {}};{"name": "f", "parameters": {}}\n', 2),
        ("mistral", '[TOOL_CALLS] [{"name": "f", "arguments": {}},\n{"name": "f", "arguments": {}} ]', 2),
        ("mistral-args", "[TOOL_CALLS]f[CALL_ID]a1B2c3D4e[ARGS]{}[TOOL_CALLS]f[ARGS] {}", 2),
        (
            "gemma",
            '```tool_code\n{"name":"f","parameters":{}}\n```\n```tool_code{"name":"f","parameters":{}}```',
            2,
        ),
        ("generic", ' [\n  {"name": "f", "arguments": {}},\n  {"name": "f", "arguments": {}}\n]\n', 2),
    ],
)
def test_whitespace_and_what_else_models_vary_makes_no_difference(name: str, text: str, calls: int) -> None:
    assert read(FORMATS[name], text) == Outcome("", "", [(f"id{index}", "f", "{}") for index in range(calls)])


@EVERY
def test_what_is_held_back_is_bounded(format_: ToolFormat) -> None:
    written = format_.written
    beginnings = [
        *("", written.opening, written.opening + written.before_name, written.opening + written.head("f")),
        written.text([F]),
        written.opening + written.head("f") + "{}",
        written.opening + written.head("f") + "{}" + written.after_arguments + written.separator,
    ]
    for beginning in beginnings:
        for flood in (" ", "\n", "a", "<", "[", "{", '"', "`", "}", ",", "0"):
            reading = parser(format_)
            reading.feed(beginning)
            for _ in range(40):
                reading.feed(flood * 50)
                assert len(reading._held) <= HELD_MAX


PIECES = st.sampled_from(
    [
        *(
            piece
            for format_ in FORMATS.values()
            for piece in (format_.written.text([F]), format_.written.head("f"))
        ),
        *(
            "<tool_call>",
            "</tool_call>",
            "[TOOL_CALLS]",
            "[ARGS]",
            "[CALL_ID]",
            "```tool_code",
            "```",
            "<|python_tag|>",
        ),
        *(
            '{"name": "f", "parameters": ',
            '{"name": "f", "arguments": ',
            '{"city": "Oslo"}',
            "{}",
            "}",
            "{",
            "]",
            "[",
        ),
        *("; ", ", ", "\n", " " * 33, "<tool_", "[TOOL", "``", 'x"', "Hello", "f", "g"),
    ]
)
TEXTS = st.lists(PIECES, max_size=8).map("".join)


@unhurried
@given(st.sampled_from(list(FORMATS.values())), TEXTS, CUTS)
@example(FORMATS["hermes"], "<tool_<tool_call>" + FORMATS["hermes"].written.text([F]), [6, 20, 30])
def test_it_says_the_same_however_the_text_is_cut(format_: ToolFormat, text: str, cuts: list[int]) -> None:
    whole = read(format_, text)
    assert read(format_, *cut(text, cuts)) == whole
    assert read(format_, *text) == whole


@unhurried
@given(st.sampled_from(list(FORMATS.values())), TEXTS)
def test_nothing_is_lost_where_nothing_is_called(format_: ToolFormat, text: str) -> None:
    content, _, calls = read(format_, text)
    if not calls:
        assert content == text


@unhurried
@given(
    st.sampled_from(list(FORMATS.values())),
    st.lists(
        st.tuples(
            st.sampled_from(["f", "get_all-2"]),
            st.dictionaries(st.text(), st.text() | st.integers(), max_size=3),
        ),
        min_size=1,
        max_size=4,
    ),
    CUTS,
)
def test_what_is_written_is_read_back(
    format_: ToolFormat, calls: list[tuple[str, dict[str, object]]], cuts: list[int]
) -> None:
    content, _, found = read(format_, *cut(format_.written.text(calls), cuts))
    assert content == ""
    assert [(name, json.loads(arguments)) for _, name, arguments in found] == calls
