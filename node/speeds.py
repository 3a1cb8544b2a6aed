"""Speeds: how fast one model runs on this machine, measured on the answers it gave.

Tokens and seconds are summed and both sums fade, so a long answer counts for more than
a short one, whose time is mostly what every answer costs. What was cached of a prompt
was not read, and is not counted.

Zero until something was measured. Knows no engine: whoever reads an answer to its end says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from federation.backend import Done
from ledger.probe import SPEED_MAX

_FADE = 0.8
"""What a measurement keeps of its weight with each one that follows. So the last five count most: one for
each of the usual four slots, and one more. Slower, and a machine that got busy would be asked for a
minute too long; faster, and one odd answer would send everybody elsewhere."""

_WAITED_MIN = 0.5
"""The part of an answer's decoding during which its reader must have waited for us. An engine pauses for
who does not read: that answer's speed is the reader's."""


@dataclass(slots=True)
class _Speed:
    """Tokens per second."""

    tokens: float = 0.0
    seconds: float = 0.0

    @property
    def value(self) -> float:
        # A clock too coarse for a tiny prompt measures next to nothing; peers take more than that for a lie.
        return min(self.tokens / self.seconds, SPEED_MAX) if self.seconds > 0 else 0.0

    def measured(self, tokens: int, seconds: float) -> None:
        if tokens > 0 and seconds > 0:
            self.tokens = _FADE * self.tokens + tokens
            self.seconds = _FADE * self.seconds + seconds


@dataclass(slots=True)
class Speeds:
    """Of one model, on this machine."""

    _prefill: _Speed = field(default_factory=_Speed)
    _decode: _Speed = field(default_factory=_Speed)

    @property
    def prefill(self) -> float:
        """Tokens of prompts per second."""
        return self._prefill.value

    @property
    def decode(self) -> float:
        """Tokens per second of one answer, at the concurrency of late."""
        return self._decode.value

    def answered(self, done: Done, waited: float, *, delivered: int = 0) -> None:
        """`done` ended an answer; its reader waited `waited` seconds for what followed the first token.

        `delivered`: tokens of it that were made elsewhere, and read here like its prompt.
        """
        uncached = done.usage.prompt_tokens - done.usage.cached_tokens
        self._prefill.measured(uncached + delivered, done.timings.prefill)
        if waited >= _WAITED_MIN * done.timings.decode:
            # The first token came with the end of the prefill.
            self._decode.measured(done.usage.completion_tokens - delivered - 1, done.timings.decode)
