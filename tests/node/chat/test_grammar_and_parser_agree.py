"""Answers drawn at random from all that a grammar allows, and what the parser makes of them.

`SEED=` repeats one; each answer is drawn from a seed of its own, which is shown when it fails.
"""

from __future__ import annotations

import json
import os
import random

import pytest

from node.chat.answer_parser import AnswerParser
from node.chat.call_parser import CallParser
from node.chat.formats.choice import FORMATS
from node.chat.formats.tool_format import ToolFormat
from node.chat.grammar import AnswerRules, answer_grammar
from node.chat.reasoning import ReasoningMode, ReasoningSplitter
from node.chat.tools import ToolUse, check_tools
from tests.node.chat.cutting import outcome
from tests.node.chat.matching import END, matcher_of

SEEDS = [int(os.environ["SEED"])] if "SEED" in os.environ else range(25)
LENGTH_MAX = 300
"""Bytes of an answer; what has not ended by then is not looked at."""

BEGINNINGS: dict[ReasoningMode, tuple[str, ...]] = {
    "never": ("",),
    "possible": ("", "<think>ab</think>", "\n<think> <tool_call></think>\n"),
    "begun": ("ab</think>", "<think>x</think>\n", "</think>"),
}


def draw(rng: random.Random, grammar: str, format_: ToolFormat, mode: ReasoningMode) -> str | None:
    """A whole answer to `grammar`, which often calls, or None."""
    matcher = matcher_of(grammar)
    written = bytearray()

    def take(text: str) -> None:
        for byte in text.encode():
            if not matcher.try_consume_tokens([byte]):
                return
            written.append(byte)

    take(rng.choice(BEGINNINGS[mode]))
    take(rng.choice(["", "", "Hello", "\n", "[", "{", format_.read.marker[:-1]]))
    take(rng.choice(["", format_.read.marker, format_.written.opening + format_.written.head("f")]))
    while len(written) < LENGTH_MAX:
        mask = matcher.compute_bitmask()
        allowed = [byte for byte in range(END) if mask[byte // 8] >> (byte % 8) & 1]
        if mask[END // 8] >> (END % 8) & 1 and (not allowed or rng.random() < 0.3):
            return written.decode()
        # Of letters there is enough in a few; structure is what matters.
        few = [byte for byte in allowed if byte in b'ab1{}[]<",: ']
        byte = rng.choice(few or [byte for byte in allowed if 32 <= byte < 127] or allowed)
        matcher.consume_token(byte)
        written.append(byte)
    return None


def use() -> ToolUse | None:
    schemas = {
        "f": {"properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}}, "required": ["a"]},
        "fg": {"properties": {"s": {"enum": ["x", "y"]}}},
    }
    tools = [
        {"type": "function", "function": {"name": name, "parameters": schema}}
        for name, schema in schemas.items()
    ]
    return check_tools(tools, "auto", allows_parallel=True)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mode", list(BEGINNINGS))
@pytest.mark.parametrize("format_", FORMATS.values(), ids=list(FORMATS))
def test_a_call_that_is_read_is_valid_and_none_is_left_in_the_text(
    format_: ToolFormat, mode: ReasoningMode, seed: int
) -> None:
    grammar = answer_grammar(AnswerRules(format_, use(), reasoning=mode))
    assert grammar is not None
    answer = draw(random.Random(seed), grammar, format_, mode)
    if answer is None:
        return
    parser = AnswerParser(ReasoningSplitter(mode), CallParser(format_.read, {"f", "fg"}, str))
    content, _, calls = outcome(parser, [answer])
    for _, name, text in calls:
        arguments = json.loads(text)
        if name == "f":
            assert isinstance(arguments["a"], int)
            assert arguments.keys() <= {"a", "b"}
        else:
            assert arguments in ({}, {"s": "x"}, {"s": "y"})
    if format_.start_marker:
        assert not (calls and content)
    else:
        assert format_.read.marker not in content
