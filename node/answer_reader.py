"""Answer reader: what an engine generated, taken apart into what a client reads.

    engine --> text of each choice --> its parser --> content, reasoning, tool calls --> client

A completion has no parsers: its text is its content.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from federation.backend import AnswerEvent, Chunk, Done, FinishReason
from node.chat.answer_parser import AnswerParser, AnswerPiece


class AnswerReader:
    """Reads one answer; `parsers` has one for each choice of a chat."""

    def __init__(self, parsers: Sequence[AnswerParser] = (), resumed: Sequence[str] = ()) -> None:
        """`resumed`: the text of each choice that was delivered before, elsewhere."""
        self._parsers = parsers
        for parser, text in zip(parsers, resumed, strict=False):
            parser.feed(text)

    def read(self, event: AnswerEvent) -> Iterator[AnswerEvent]:
        """What `event` is to the client."""
        if not self._parsers:
            yield event
            return
        match event:
            case Chunk(choice, text=text):
                yield _with(event, self._parsers[choice].feed(text))
            case Done():
                for choice, parser in enumerate(self._parsers):
                    rest = parser.finish()
                    if any(rest):
                        yield _with(Chunk(choice, (), ""), rest)
                yield replace(event, finish_reasons=tuple(map(_reason, event.finish_reasons, self._parsers)))
            case _:
                yield event


def _with(chunk: Chunk, piece: AnswerPiece) -> Chunk:
    return replace(chunk, text=piece.content, reasoning=piece.reasoning, tool_calls=piece.tool_calls)


def _reason(reason: FinishReason, parser: AnswerParser) -> FinishReason:
    # An answer that was cut off in a call says so: its arguments are not whole.
    return "tool_calls" if reason == "stop" and parser.has_tool_calls else reason
