"""Trace: how one request goes, written by who serves it and read by who explains it.

    begun --queue, route--> asked --connect--> accepted --prefill--> first token --decode--> over

Copies of a request share its trace, so whoever goes on with an answer writes where the one before did. It can
be read at any moment: what failed or was cancelled tells how far it came. Nothing is written per token.

Reads no clock.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ledger.records import ModelName
from p2p.peer import PeerId

if TYPE_CHECKING:
    from federation.backend import Done

_DIGITS = 4
"""Of seconds in a log: a tenth of a millisecond is the least that anything here takes."""


@dataclass(frozen=True, slots=True)
class Phases:
    """Seconds, one phase after the other: together, all the time that a request took."""

    queue: float = 0.0
    """It waited at the front for a slot."""
    route: float = 0.0
    """It looked for who serves it: choosing, and asking those who did not."""
    connect: float = 0.0
    """Until that one accepted it: a stream is opened, a model loaded, a prompt made into tokens."""
    prefill: float = 0.0
    """Until the first token was here."""
    decode: float = 0.0
    """Until the end; going on elsewhere included."""

    @property
    def total(self) -> float:
        """All of them."""
        return self.queue + self.route + self.connect + self.prefill + self.decode


@dataclass(slots=True)
class Trace:
    """Of one request."""

    model: ModelName | None = None
    """The name of what serves it; None: nobody was looked for."""
    peer: PeerId | None = None
    """Who accepted it last."""
    attempts: int = 0
    """How often a peer was asked, to go on with the answer too."""
    resumes: int = 0
    """How often another one went on with the answer."""
    prompt_tokens: int = 0
    tokens: int = 0
    """Generated, as far as anybody counted, when it was over or broke off."""
    done: Done | None = None
    """How it ended; None: it did not come to its end."""
    queue: float = 0.0
    """Seconds that it waited for a slot, before its first token."""
    position: int | None = None
    """While it waits for a slot: how many were to go before it when it came."""
    _began_at: float | None = None
    _asked_at: float | None = None
    _accepted_at: float | None = None
    _first_at: float | None = None
    _over_at: float | None = None

    @property
    def has_token(self) -> bool:
        """The first token came."""
        return self._first_at is not None

    def begin(self, model: ModelName, now: float) -> None:
        """Somebody is looked for to serve it; a second try begins when the first one did."""
        self.model = model
        if self._began_at is None:
            self._began_at = now

    def waited(self, seconds: float) -> None:
        """It waited for a slot. Where an answer goes on, waiting is part of decode."""
        if self._first_at is None:
            self.queue += seconds

    def accept(self, peer: PeerId, prompt_tokens: int, asked_at: float, now: float) -> None:
        """`peer`, which was asked then, serves it from now on."""
        self.peer, self.prompt_tokens, self._over_at = peer, prompt_tokens, None
        if self._first_at is None:
            self._asked_at, self._accepted_at = asked_at, now

    def start_again(self) -> None:
        """From nothing: what came of the answer was thrown away."""
        self._first_at = None

    def first_token(self, now: float) -> None:
        """The first token is here."""
        self._first_at = now

    def end(self, done: Done, now: float) -> None:
        """It came to its end."""
        self.done, self._over_at = done, now
        self.tokens = done.usage.completion_tokens

    def stop(self, tokens: int, now: float) -> None:
        """Nobody serves it now, after `tokens` tokens; it may have come to its end before."""
        if self.done is None:
            self.tokens, self._over_at = tokens, now

    def phases(self, now: float) -> Phases:
        """How long each took, until now where it is not over. What was never reached took none."""
        over = now if self._over_at is None else self._over_at
        began = over if self._began_at is None else self._began_at
        asked = over if self._asked_at is None else self._asked_at
        accepted = over if self._accepted_at is None else self._accepted_at
        first = over if self._first_at is None else self._first_at
        # Not less than nothing, which rounding could make of it.
        route = max(0.0, asked - began - self.queue)
        return Phases(self.queue, route, accepted - asked, first - accepted, over - first)

    def time_to_first_token(self) -> float | None:
        """Seconds from its beginning; None: no token came."""
        if self._first_at is None or self._began_at is None:
            return None
        return self._first_at - self._began_at

    def time_per_token(self, choices: int) -> float | None:
        """Mean seconds from one token to the next in each of its `choices`, which are generated side by side.
        None: there was no next one, it is not over, or several peers generated it."""
        if self.done is None or self.resumes or self._first_at is None or self._over_at is None:
            return None
        gaps = self.tokens / choices - 1
        return (self._over_at - self._first_at) / gaps if gaps > 0 else None

    def fields(self, now: float) -> dict[str, object]:
        """What a line of the log says of it: nothing of what was asked or answered."""
        phases = self.phases(now)
        said: dict[str, object] = {
            f"{name}_s": round(seconds, _DIGITS) for name, seconds in asdict(phases).items()
        }
        said["prompt_tokens"] = self.prompt_tokens
        if self.done is not None:
            said["prompt_tokens"] = self.done.usage.prompt_tokens
            said["cached_tokens"] = self.done.usage.cached_tokens
        said["completion_tokens"] = self.tokens
        if self.done is not None and self.done.finish_reasons:
            said["finish"] = ",".join(sorted(set(self.done.finish_reasons)))
        return said
