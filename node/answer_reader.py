"""Answer reader: what an engine generated, taken apart into what a client reads.

    engine --> text of each choice --> its parser --> content, reasoning, tool calls --> client

A completion has no parsers: its text is its content.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from federation.backend import AnswerEvent, Chunk, Delivered, Done, FinishReason
from node.chat.answer_parser import AnswerParser, AnswerPiece


class AnswerReader:
    """Reads one answer; `parsers` has one for each choice of a chat."""

    def __init__(
        self,
        parsers: Sequence[AnswerParser] = (),
        resumed: Sequence[str] = (),
        delivered: Sequence[Delivered] = (),
    ) -> None:
        """`resumed`: the text of each choice that was delivered before, elsewhere, as `delivered`."""
        self._parsers = parsers
        self._open = set(range(len(parsers)))
        """Choices of which the end was not read yet."""
        for choice, (text, before) in enumerate(zip(resumed, delivered, strict=True)):
            if parsers:
                parsers[choice].feed(text)
                if before.finish_reason is not None:
                    self._finish(choice)

    def read(self, event: AnswerEvent) -> Iterator[AnswerEvent]:
        """What `event` is to the client."""
        if not self._parsers:
            yield event
            return
        match event:
            case Chunk(choice, text=text):
                yield from self._read_chunk(event, self._parsers[choice].feed(text))
            case Done():
                # Those that ended elsewhere, where nobody heard of it; with the end, as in `_read_chunk`.
                endings = [(choice, self._finish(choice)) for choice in sorted(self._open)]
                reasons = tuple(map(_reason, event.finish_reasons, self._parsers))
                for choice, rest in endings:
                    yield _with(Chunk(choice, (), "", finish_reason=reasons[choice]), rest)
                yield replace(event, finish_reasons=reasons)
            case _:
                yield event

    def _read_chunk(self, chunk: Chunk, piece: AnswerPiece) -> Iterator[Chunk]:
        if chunk.finish_reason is None:
            yield _with(chunk, piece)
            return
        rest = self._finish(chunk.choice)
        reason = _reason(chunk.finish_reason, self._parsers[chunk.choice])
        if any(rest):
            # In two, because each has an order of its own.
            yield _with(replace(chunk, finish_reason=None), piece)
            chunk, piece = Chunk(chunk.choice, (), ""), rest
        # With its end, so that no cut between them makes another engine say the text again.
        yield _with(replace(chunk, finish_reason=reason), piece)

    def _finish(self, choice: int) -> AnswerPiece:
        self._open.discard(choice)
        return self._parsers[choice].finish()


def _with(chunk: Chunk, piece: AnswerPiece) -> Chunk:
    return replace(chunk, text=piece.content, reasoning=piece.reasoning, tool_calls=piece.tool_calls)


def _reason(reason: FinishReason, parser: AnswerParser) -> FinishReason:
    # An answer that was cut off in a call says so: its arguments are not whole.
    return "tool_calls" if reason == "stop" and parser.has_tool_calls else reason
