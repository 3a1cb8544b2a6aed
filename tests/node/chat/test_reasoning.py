from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.chat.answer_parser import AnswerParser
from node.chat.call_parser import CallParser
from node.chat.formats.choice import FORMATS
from node.chat.reasoning import ReasoningMode, ReasoningSplitter, reasoning_mode
from tests.node.chat.cutting import CUTS, Outcome, cut, outcome

unhurried = settings(deadline=None)
"""A busy machine is no fault."""

MODES: tuple[ReasoningMode, ...] = ("never", "possible", "begun")
QWEN = "{% if enable_thinking is false %}<think>\n\n</think>{% endif %}"


def read(mode: ReasoningMode, *pieces: str) -> tuple[str, str]:
    content, reasoning, calls = outcome(AnswerParser(ReasoningSplitter(mode)), list(pieces))
    assert not calls
    return content, reasoning


@pytest.mark.parametrize(
    ("mode", "text", "content", "reasoning"),
    [
        ("possible", "<think>\nHm.\n</think>\n\nHello", "Hello", "Hm.\n"),
        ("possible", "\n<think></think>Hello", "Hello", ""),
        ("possible", "Hello <think>x</think>", "Hello <think>x</think>", ""),
        ("possible", "<thin", "<thin", ""),
        ("possible", "<think>never ends </thi", "", "never ends </thi"),
        ("possible", "", "", ""),
        ("begun", "\nHm.</think>\nHello</think>", "Hello</think>", "Hm."),
        ("begun", "<think>\nHm.</think>\nHello", "Hello", "Hm."),
        ("begun", "never ends", "", "never ends"),
        ("begun", "<thi", "", "<thi"),
        ("never", "<think>Hm.</think>Hello", "<think>Hm.</think>Hello", ""),
    ],
)
def test_what_was_thought_is_told_from_what_was_said(
    mode: ReasoningMode, text: str, content: str, reasoning: str
) -> None:
    assert read(mode, text) == (content, reasoning)


@pytest.mark.parametrize(
    ("template", "rendered", "mode"),
    [
        (QWEN, "<|im_start|>assistant\n", "possible"),
        (QWEN, "<|im_start|>assistant\n<think>\n", "begun"),
        (QWEN, "<|im_start|>assistant\n<think>\n\n</think>\n\n", "possible"),
        ("{{ messages }}", "Say <think>.\nAssistant:", "never"),
        ("{{ messages }}<think>", "<think>", "begun"),
    ],
)
def test_a_model_thinks_where_its_template_says_so(template: str, rendered: str, mode: ReasoningMode) -> None:
    assert reasoning_mode(template, rendered) == mode


def test_a_call_in_mind_is_not_called() -> None:
    hermes = FORMATS["hermes"]
    call = hermes.written.text([("f", {})])
    parser = AnswerParser(
        ReasoningSplitter("begun"), CallParser(hermes.read, {"f"}, lambda index: f"id{index}")
    )
    assert outcome(parser, [f"I could {call}</think>\n\n{call}"]) == Outcome(
        "", f"I could {call}", [("id0", "f", "{}")]
    )
    assert parser.has_tool_calls


TEXTS = st.lists(
    st.sampled_from(["<think>", "</think>", "<thi", "</", ">", "\n", " " * 33, "Hm", "<"]), max_size=8
).map("".join)


@unhurried
@given(st.sampled_from(MODES), TEXTS, CUTS)
def test_it_says_the_same_however_the_text_is_cut(mode: ReasoningMode, text: str, cuts: list[int]) -> None:
    whole = read(mode, text)
    assert read(mode, *cut(text, cuts)) == whole
    assert read(mode, *text) == whole


def bare(text: str) -> str:
    return "".join(text.replace("<think>", "").replace("</think>", "").split())


@unhurried
@given(st.sampled_from(MODES), st.lists(st.sampled_from(["<think>", "</think>", "\n", " " * 33, "Hm"])))
def test_only_tags_and_whitespace_around_them_go(mode: ReasoningMode, words: list[str]) -> None:
    text = "".join(words)
    content, reasoning = read(mode, text)
    assert bare(reasoning) + bare(content) == bare(text)


@unhurried
@given(st.sampled_from(MODES), TEXTS)
def test_what_is_held_back_is_bounded(mode: ReasoningMode, text: str) -> None:
    splitter = ReasoningSplitter(mode)
    for char in text:
        splitter.feed(char)
        assert len(splitter._held) <= 50
