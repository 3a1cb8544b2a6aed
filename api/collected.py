"""The chunks of an answer, put together choice by choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from federation.backend import Chunk, TokenLogprob, ToolCallDelta


@dataclass(slots=True)
class CollectedCall:
    """One call, as far as it has come."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def add(self, piece: ToolCallDelta) -> None:
        """Take the next piece."""
        self.id = self.id or piece.id
        self.name = self.name or piece.name
        self.arguments.append(piece.arguments)


@dataclass(slots=True)
class CollectedChoice:
    """One choice, or what is said of one input."""

    _texts: list[str] = field(default_factory=list)
    _reasonings: list[str] = field(default_factory=list)
    _vectors: list[bytes] = field(default_factory=list)
    calls: dict[int, CollectedCall] = field(default_factory=dict)
    """By their index."""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All of the text."""
        return "".join(self._texts)

    @property
    def reasoning(self) -> str:
        """All that the model thought."""
        return "".join(self._reasonings)

    @property
    def vector(self) -> bytes:
        """All numbers, as 32-bit floats, little-endian."""
        return b"".join(self._vectors)

    def add(self, chunk: Chunk) -> None:
        """Take the next chunk."""
        self._texts.append(chunk.text)
        self._reasonings.append(chunk.reasoning)
        self._vectors.append(chunk.vector)
        self.logprobs.extend(chunk.logprobs)
        self.token_ids.extend(chunk.token_ids)
        for piece in chunk.tool_calls:
            self.calls.setdefault(piece.index, CollectedCall()).add(piece)


@dataclass(slots=True)
class CollectedAnswer:
    """All choices of one answer."""

    _choices: dict[int, CollectedChoice] = field(default_factory=dict)

    def add(self, chunk: Chunk) -> None:
        """Take the next chunk, of whichever choice."""
        self._choices.setdefault(chunk.choice, CollectedChoice()).add(chunk)

    def choices(self, count: int) -> Sequence[CollectedChoice]:
        """The first `count`; one that nothing came of is empty."""
        return [self._choices.get(index) or CollectedChoice() for index in range(count)]
