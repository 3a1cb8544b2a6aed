"""Standstill: whether an answer comes any further, where its peer says no more than that it is at work.

    PROGRESS 0/900 ... 64/900 ... 64/900 ... 64/900 ...
                       furthest   +----- waited -----+----> after `limit` seconds it stands still

What an honest worker can always show: a model that is loaded grows, and its own watchdog ends an engine that
reports nothing for five minutes; prompts share each step, so one that waits beside others is read too; and
tokens are chunks, whatever becomes of their text. What it cannot show is how much of a prompt a server of
another program has read, so a long prompt may take longer; nor how long a model will wait for the memory of
others, so whoever waits so long is asked no longer.

Only what grows beyond all before counts, or two values in turn would do. Only our own waiting counts: a
client that reads slowly makes no peer stand still.

Reads no clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from federation.backend import Chunk, Progress
from federation.infer import WorkerMessage

_STILL_MAX = 300.0
"""Seconds: as long as an engine has for its next report while it loads (`node/engine/watchdog.py`). One at
work has a minute, and one with a large file as long as its weights take to be read again."""

_READ_MIN = 100.0
"""Bytes of a request in a second, some 25 tokens: slower machines hold no conversations."""


@dataclass(slots=True)
class Standstill:
    """Of one answer, before it was accepted or after. `size`: bytes of its request."""

    size: int
    waited: float = 0.0
    """Seconds, since it last came further."""
    _furthest: int = 0

    def note(self, said: WorkerMessage, waited: float) -> None:
        """It `said` that, for which we waited so many seconds."""
        if _comes_further(said, self._furthest):
            self.waited = 0.0
            if isinstance(said, Progress):
                self._furthest = said.prefilled
        else:
            self.waited += waited

    @property
    def is_too_long(self) -> bool:
        """No honest peer takes so long."""
        return self.waited > _STILL_MAX + self.size / _READ_MIN


def _comes_further(said: WorkerMessage, furthest: int) -> bool:
    match said:
        case Chunk():
            return bool(
                said.token_ids
                or said.text
                or said.reasoning
                or said.tool_calls
                or said.vector
                or said.logprobs
            )
        case Progress(prefilled):
            return prefilled > furthest
        case _:
            return True
