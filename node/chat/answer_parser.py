"""One answer of a model taken apart while it grows: content, reasoning, tool calls.

    text --> ReasoningSplitter --> CallParser --> content
                   |                   |
               reasoning          tool calls

What comes out, put together, follows from the text alone, so an answer that goes on
elsewhere says the same there: feed it what was generated so far, and drop what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from federation.backend import ToolCallDelta
from node.chat.call_parser import CallParser
from node.chat.reasoning import ReasoningSplitter


class AnswerPiece(NamedTuple):
    """What became certain with a piece of text. All of it may be empty."""

    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()


@dataclass(slots=True)
class AnswerParser:
    """Of one choice."""

    reasoning: ReasoningSplitter
    calls: CallParser | None = None
    """None: there is nothing to call, so everything is content."""

    @property
    def has_tool_calls(self) -> bool:
        """The answer calls, so it ends for that reason."""
        return self.calls is not None and self.calls.calls > 0

    def feed(self, text: str) -> AnswerPiece:
        """What is certain now that `text` is there."""
        content, reasoning = self.reasoning.feed(text)
        if self.calls is None:
            return AnswerPiece(content, reasoning)
        content, deltas = self.calls.feed(content)
        return AnswerPiece(content, reasoning, deltas)

    def finish(self) -> AnswerPiece:
        """What was held back, once no more text comes."""
        content, reasoning = self.reasoning.finish()
        if self.calls is None:
            return AnswerPiece(content, reasoning)
        content, deltas = self.calls.feed(content)
        rest, more = self.calls.finish()
        return AnswerPiece(content + rest, reasoning, deltas + more)
