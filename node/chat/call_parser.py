"""Tool calls found in an answer while it is generated: text in pieces of any size in, content and calls out.

    text -----> marker, or the start of the answer ---- no call after all ----> content
                   | head of a call of a tool there is
                arguments, passed on as they come ----- not JSON -------------> the rest is content
                   | object whole
                end of the call, or head of the next -- neither --------------> the rest is content

A call counts once its head is whole: tool, name and where its arguments begin. Before
that everything can still come out as content, and nothing is lost. After that its
arguments are out, and can only end: where they break off they stay the beginning of a
JSON object, as they do when an answer reaches its length.

What comes out, put together, follows from the text alone, however it was cut: each
decision waits until no further text could change it. What waits is the beginning of a
marker or of a `CallPattern`, so some hundred characters at most.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from federation.backend import ToolCallDelta
from node.chat.formats.call_pattern import CallMatch, CallPattern, MatchSoFar
from node.chat.formats.tool_format import ReadCalls
from node.chat.json_scanner import JsonObjectScanner
from node.chat.partial_text import length_that_begins

_BLANKS = " \t\r\n"


@dataclass(slots=True)
class CallParser:
    """The calls of one answer."""

    read: ReadCalls
    names: Collection[str]
    """Of the tools there are. What calls another one is content."""
    id_of: Callable[[int], str]
    """The id of the call of that index."""
    calls: int = 0
    """How many have begun."""
    _held: str = ""
    _step: Callable[[], bool] = field(init=False)
    """What is done with the text held; whether it got anywhere."""
    _scanner: JsonObjectScanner = field(default_factory=JsonObjectScanner)
    _is_after_call: bool = False
    """Whitespace between calls is no content."""
    _content: list[str] = field(default_factory=list)
    _deltas: list[ToolCallDelta] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._step = self._at_start if self.read.at_start else self._in_text

    def feed(self, text: str) -> tuple[str, tuple[ToolCallDelta, ...]]:
        """The content and the pieces of calls that are certain now that `text` is there."""
        self._held += text
        while self._held and self._step():
            pass
        return self._taken()

    def finish(self) -> tuple[str, tuple[ToolCallDelta, ...]]:
        """What was held back for something that never came."""
        if self._step == self._after_arguments:
            self._end_call_here()
        self._say(self._held)
        self._held = ""
        return self._taken()

    def _taken(self) -> tuple[str, tuple[ToolCallDelta, ...]]:
        content, deltas = "".join(self._content), tuple(self._deltas)
        self._content, self._deltas = [], []
        return content, deltas

    def _at_start(self) -> bool:
        match self._first_match(self.read.at_start):
            case CallMatch() as match:
                return self._begin_call(match)
            case "open":
                return False
        self._step = self._in_text
        return True

    def _in_text(self) -> bool:
        marker = self.read.marker
        begin = self._held.find(marker) if marker else -1
        if begin < 0:
            self._say_up_to(len(self._held) - length_that_begins(marker, self._held))
            return False
        self._say_up_to(begin)
        match self._first_match(self.read.at_marker):
            case CallMatch() as match:
                return self._begin_call(match)
            case "open":
                return False
        self._say_up_to(len(marker))
        return True

    def _in_arguments(self) -> bool:
        length = self._scanner.feed(self._held)
        self._say_arguments(self._held[:length])
        self._held = self._held[length:]
        if self._scanner.state == "whole":
            self._step = self._after_arguments
        elif self._scanner.state == "broken":
            self._step = self._in_text
        return True

    def _after_arguments(self) -> bool:
        if self.read.following is not None:
            match self._first_match((self.read.following,)):
                case CallMatch() as match:
                    return self._begin_call(match)
                case "open":
                    return False
        match self.read.end.match(self._held):
            case CallMatch(end):
                self._held = self._held[end:]
                self._is_after_call = True
            case "open":
                return False
        self._step = self._in_text
        return True

    def _end_call_here(self) -> None:
        """The text is over: what began to end the call goes with it."""
        match self.read.end.match(self._held):
            case CallMatch(end):
                self._held = self._held[end:].lstrip(_BLANKS)
            case "open":
                self._held = ""

    def _first_match(self, patterns: tuple[CallPattern, ...]) -> MatchSoFar:
        """The match of the first pattern that has one or may get one."""
        for pattern in patterns:
            found = pattern.match(self._held)
            if isinstance(found, CallMatch) and found.name not in self.names:
                found = "never"
            if found != "never":
                return found
        return "never"

    def _begin_call(self, match: CallMatch) -> bool:
        self._held = self._held[match.end :]
        self._deltas.append(ToolCallDelta(self.calls, self.id_of(self.calls), match.name))
        self.calls += 1
        self._scanner = JsonObjectScanner()
        self._step = self._in_arguments
        return True

    def _say_arguments(self, text: str) -> None:
        if self._deltas:
            # Of the same call: between two calls stands at least one delta that begins the second.
            self._deltas[-1] = replace(self._deltas[-1], arguments=self._deltas[-1].arguments + text)
        elif text:
            self._deltas.append(ToolCallDelta(self.calls - 1, arguments=text))

    def _say_up_to(self, length: int) -> None:
        self._say(self._held[:length])
        self._held = self._held[length:]

    def _say(self, text: str) -> None:
        if self._is_after_call:
            text = text.lstrip(_BLANKS)
        if text:
            self._is_after_call = False
            self._content.append(text)
