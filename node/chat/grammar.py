r"""What an answer may be, as a grammar in llguidance's Lark: reasoning, then text, or calls, or JSON.

    start: unfinished | (think GAP?)? (TEXT | head calls_after_marker)
    think[lazy]: /\s*<think>(?s:.*)<\/think>/
    head[lazy]: TEXT "<tool_call>"
    calls_after_marker: ("\n{\"name\": \"f\", \"arguments\": " args_0 "}\n</tool_call>") (more_0){0,15}
    more_0: "\n<tool_call>\n{\"name\": \"f\", \"arguments\": " args_0 "}\n</tool_call>"
    args_0: %json {...}                                       the same for each tool, in alternatives

A lazy lexeme ends where it first can, so once a marker stands there, only a call of a
tool with arguments that meet its schema goes on. After the calls the answer is over:
a model that goes on would make up their results.

Texts that are one control token in a vocabulary are named by its id, since the bytes
of such a token are never text to llguidance.

Pure: nothing here is checked. Whether a grammar can be run, `render_child.py` finds out.

Source: llguidance's docs/syntax.md and docs/json_schema.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from node.chat.formats.tool_format import ToolFormat
from node.chat.reasoning import THINK, THINK_END, ReasoningMode
from node.chat.tools import Tool, ToolUse

_ANY = "(?s:.*)"
_BLANKS = r"[ \t\r\n]*"

_WRITTEN_AS_TRAINED = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""Arguments: Python's `json.dumps`, with which every family's training data was made. With no choice of
whitespace, a small model cannot spend its tokens on it either."""

_WRITTEN_FOR_PEOPLE = {"whitespace_pattern": r" |\n[ \t]{0,32}"}
"""Answers: on one line or indented, as llama.cpp's own schemas allow it; never endless blank lines."""

# Next to these, `properties` are not all there is to say about which names an object may have.
_COMBINED = frozenset(
    {
        *("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"),
        *("additionalProperties", "unevaluatedProperties", "patternProperties", "propertyNames"),
        "minProperties",
    }
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asked an answer to be: a rule's right side."""

    rule: str

    @staticmethod
    def schema(schema: Mapping[str, Any]) -> Asked:
        """JSON that meets `schema`, strictly: its keywords hold or are refused."""
        return Asked(_json_rule(schema, **_WRITTEN_FOR_PEOPLE))

    @staticmethod
    def lark(grammar: str) -> Asked:
        """What the Lark `grammar` describes, whose names stay its own."""
        return Asked("%lark {\n" + grammar + "\n}")


@dataclass(frozen=True, slots=True)
class AnswerRules:
    """All that decides what an answer may be."""

    format: ToolFormat
    tools: ToolUse | None = None
    asked: Asked | None = None
    reasoning: ReasoningMode = "never"
    token_ids: Mapping[str, int] = field(default_factory=dict)
    """Of texts that are control tokens."""

    @property
    def may_be_text(self) -> bool:
        """Nothing forces the answer into a form."""
        return self.asked is None and (self.tools is None or not self.tools.is_forced)


def answer_grammar(rules: AnswerRules) -> str | None:
    """The grammar in Lark, or None: the answer may be any text."""
    if rules.tools is None and rules.asked is None:
        return None
    return "\n".join([*_start(rules), *_reasoning_rules(rules), *_call_rules(rules), *_text_rules(rules)])


def schema_grammar(tool: Tool) -> str:
    """A grammar of the arguments of `tool` alone: to find out whether they are what is wrong."""
    return f"start: {_arguments_rule(tool)}"


def _start(rules: AnswerRules) -> list[str]:
    answers = []
    if rules.asked is not None:
        answers.append("asked")
    if rules.may_be_text:
        answers.append("TEXT")
    if rules.tools is not None:
        answers += _calls_after_text(rules) if rules.may_be_text else ["calls"]
    first = {"never": "", "possible": "(think GAP?)?", "begun": "think GAP?"}[rules.reasoning]
    start = f"{first} ({' | '.join(answers)})"
    if rules.may_be_text and rules.reasoning != "never":
        # Where nothing is forced, a model may also stop while it thinks.
        start = f"unfinished | {start}"
    lines = [f"start: {start}"]
    return [*lines, f"asked: {rules.asked.rule}"] if rules.asked else lines


def _calls_after_text(rules: AnswerRules) -> list[str]:
    """Alternatives to text that is all text."""
    marker = rules.format.read.marker
    if rules.format.start_marker:
        return ["calls", f"{_literal(marker, rules)} calls"] if marker in rules.token_ids else ["calls"]
    return [f"{_head(marker, rules)} calls_after_marker"]


def _head(marker: str, rules: AnswerRules) -> str:
    return f"TEXT? {_literal(marker, rules)}" if marker in rules.token_ids else "head"


def _reasoning_rules(rules: AnswerRules) -> list[str]:
    if rules.reasoning == "never":
        return []
    is_begun = rules.reasoning == "begun"
    gap = r"GAP: /[ \t\r\n]{1,4}/"
    if {THINK, THINK_END} <= rules.token_ids.keys():
        opening = "" if is_begun else f"{_literal(THINK, rules)} "
        end = _literal(THINK_END, rules)
        thought = f"THOUGHT: /{_ANY}/"
        return [gap, thought, f"unfinished: {opening}THOUGHT", f"think: {opening}THOUGHT? {end}"]
    thought = _ANY if is_begun else f"{_BLANKS}{THINK}{_ANY}"
    return [gap, f"unfinished: /{thought}/", f"think[lazy]: /{thought}{_regex_text(THINK_END)}/"]


def _text_rules(rules: AnswerRules) -> list[str]:
    """TEXT: anything in which nothing else begins; `head`: the same up to where a call does."""
    if not rules.may_be_text:
        return []
    read, start_marker = rules.format.read, rules.format.start_marker
    never = []
    if rules.reasoning == "possible":
        never.append(f"{_BLANKS}{THINK}{_ANY}")
    if start_marker:
        never.append(_regex_of_spec(f" {start_marker}") + _ANY)
        if rules.reasoning != "never":
            # Else what stands between reasoning and a call would be read as the beginning of a text.
            never.append(rf"[ \t\r\n]{_ANY}")
        if read.marker and read.marker not in rules.token_ids:
            never.append(f"{_ANY}{_regex_text(read.marker)}{_ANY}")
    lines = ["TEXT: " + " & ".join([f"/{_ANY}/", *(f"~/{pattern}/" for pattern in never)])]
    if read.marker and read.marker not in rules.token_ids:
        lines.append(f"head[lazy]: TEXT {json.dumps(read.marker)}")
    return lines


def _call_rules(rules: AnswerRules) -> list[str]:
    if rules.tools is None:
        return []
    written, marker = rules.format.written, rules.format.read.marker
    heads = [written.opening + written.head(tool.name) for tool in rules.tools.callable]
    lines = [f"calls: {_many(heads, rules)}"]
    if marker and heads[0].startswith(marker):
        lines.append(f"calls_after_marker: {_many([head[len(marker) :] for head in heads], rules)}")
    for index, tool in enumerate(rules.tools.callable):
        more = _literal(written.separator + written.head(tool.name), rules)
        lines.append(f"args_{index}: {_arguments_rule(tool)}")
        lines.append(f"more_{index}: {more} {_tail(index, rules)}")
    return lines


def _many(heads: Sequence[str], rules: AnswerRules) -> str:
    """From the first of `heads`, one for each tool, to the end of the calls."""
    assert rules.tools is not None
    first = " | ".join(f"{_literal(head, rules)} {_tail(index, rules)}" for index, head in enumerate(heads))
    more = " | ".join(f"more_{index}" for index in range(len(heads)))
    repeated = f" ({more}){{0,{rules.tools.calls_max - 1}}}" if rules.tools.calls_max > 1 else ""
    return f"({first}){repeated} {_literal(rules.format.written.closing, rules)}".rstrip()


def _tail(index: int, rules: AnswerRules) -> str:
    return f"args_{index} {_literal(rules.format.written.after_arguments, rules)}".rstrip()


def _arguments_rule(tool: Tool) -> str:
    """JSON that meets the tool's schema.

    Not `strict` is OpenAI's default and means best effort: there, keywords that llguidance cannot enforce
    (`not`, `uniqueItems`, a `format` it does not know) are left out, because schemas that are made from code
    are full of them, and arguments that meet the rest are far better than none. With `strict` a client relies
    on all of it, so there they are refused.

    An object that lists its properties, and says nothing of others, gets no others: they would be valid, and
    a small model that may invent names does little else.
    """
    schema = dict(tool.parameters)
    if schema.get("properties") is not None and _COMBINED.isdisjoint(schema):
        schema["additionalProperties"] = False
    return _json_rule(schema, lenient=not tool.is_strict, **_WRITTEN_AS_TRAINED)


def _json_rule(schema: Mapping[str, Any], **options: object) -> str:
    # Last: a client's own options must not win. ASCII: no line separator of Unicode ends the rule early.
    return "%json " + json.dumps({**schema, "x-guidance": options})


def _literal(text: str, rules: AnswerRules) -> str:
    """`text` in Lark, control tokens in it by their ids; empty for no text."""
    tokens = [token for token in rules.format.control_texts if token in rules.token_ids]
    tokens += [tag for tag in (THINK, THINK_END) if tag in rules.token_ids]
    pieces = re.split(f"({'|'.join(map(re.escape, tokens))})", text) if tokens else [text]
    return " ".join(
        f"<[{rules.token_ids[piece]}]>" if piece in tokens else json.dumps(piece) for piece in pieces if piece
    )


def _regex_text(text: str) -> str:
    """`text` for a Rust regex between slashes."""
    return re.sub(r"[^A-Za-z0-9_<>]", lambda match: f"\\x{ord(match.group()):02x}", text)


def _regex_of_spec(spec: str) -> str:
    """What `call_pattern` would take, for a Rust regex between slashes."""
    return "".join(_BLANKS if char == " " else _regex_text(char) for char in spec)
