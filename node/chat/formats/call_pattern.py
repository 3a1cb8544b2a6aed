"""A pattern for the fixed parts of tool calls, which also knows whether text may still become a match.

    call_pattern('<tool_call> { "name" : "%" , "arguments" :', before_object=True)

A blank stands for any whitespace or none, `%` for the name of a tool, `#` for an id,
every other character for itself. Python's `re` cannot say "so far, so good"; here a
second pattern is made for it, in which everything after each element may be missing.

No match depends on what comes after it, so it is the same however text is cut.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from node.chat.messages import TOOL_NAME_LENGTH_MAX

BLANKS_MAX = 32
"""Whitespace in one place. With it no pattern holds back more than some hundred characters; a model that
indents writes eight or so."""

_ELEMENTS = {
    " ": rf"[ \t\r\n]{{0,{BLANKS_MAX}}}",
    "%": rf"(?P<name>[A-Za-z0-9_-]{{1,{TOOL_NAME_LENGTH_MAX}}})",
    "#": r"[A-Za-z0-9_-]{1,64}",
}


@dataclass(frozen=True, slots=True)
class CallMatch:
    """`pattern` matches at the beginning of the text."""

    end: int
    name: str = ""


MatchSoFar: TypeAlias = CallMatch | Literal["open", "never"]


@dataclass(frozen=True, slots=True)
class CallPattern:
    """Two patterns made from one."""

    whole: re.Pattern[str]
    beginning: re.Pattern[str]

    def match(self, text: str) -> MatchSoFar:
        """What `text` begins with: a match, what may become one ("open"), or neither ("never")."""
        if found := self.whole.match(text):
            return CallMatch(found.end(), found.groupdict().get("name", ""))
        return "open" if self.beginning.match(text) else "never"


def call_pattern(spec: str, *, before_object: bool = False) -> CallPattern:
    """The pattern that `spec` describes; `before_object`: and then, after any blanks, an object."""
    elements = [_ELEMENTS.get(char) or re.escape(char) for char in spec]
    if before_object:
        elements.append(_ELEMENTS[" "])
    beginning = ""
    for element in reversed(elements):
        beginning = f"(?:{element}{beginning})?"
    whole = "".join(elements) + (r"(?=\{)" if before_object else "")
    return CallPattern(re.compile(whole), re.compile(beginning + r"\Z"))
