"""Speeds: how fast each peer runs each model, as this front has measured it.

    seconds per token of one answer, c of them at once:   t(c) = alone + each * c

Batching makes answers slower together than alone, though far less than in proportion. The
line is a fit over what came while c answers ran there, and old measurements fade. What is
believed before anything was measured (`Prior`) counts as a few tokens in it, and its
slope as a few more, so one or two points move the line and do not tilt it.

`node/speeds.py` measures the same on the machine itself and reports it; what we measure
includes the way to it, and is our own word.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from federation.recent import Recent
from ledger.probe import SPEED_MAX
from ledger.records import ModelName
from p2p.peer import PeerId

USUAL_RISE = 0.24
"""`each` over `alone`, where it was not measured: a 270M model on two cores takes 24, 37 and 92 ms for a
token at 1, 4 and 16 answers."""
_MEMORY_TOKENS = 512.0
"""Tokens after which a measurement counts a third: some four answers, so a machine that got busy is
known as slow before it has given many."""
_HALF_LIFE = 60.0
"""Seconds in which a measurement halves while nothing is measured: who was slow is tried again within
minutes, and what a laptop does after its lunch break is not what it did before."""
_PRIOR_TOKENS = 32.0
"""Tokens that the prior counts as: a first short answer outweighs it."""
_SLOPE_TOKENS = 256.0
"""The same of its slope, where measurements differ by one answer at once."""
_CONCURRENCY_MAX = 4096
"""Answers at once; more is a lie or a defect."""
_SECONDS_PER_TOKEN_MIN = 1 / SPEED_MAX
_SECONDS_MAX = 3600.0
"""For a token or a load: longer than any request waits."""
_KEPT_MAX = 4096
"""Peers and models: as many as a ledger has places."""
_PER_PEER_MAX = 64
"""Models of one peer: a home machine has not more (`ledger/probe.py`), and one that makes names up must not
push out what is known of the others."""


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed of a peer's speed before it was measured."""

    per_token: float
    """Seconds, at `concurrency`."""
    concurrency: float = 1.0
    prefill: float = 0.0
    """Seconds for one token of a prompt."""
    load: float = 0.0
    """Seconds until a cold model is ready."""


@dataclass(frozen=True, slots=True)
class PeerSpeed:
    """How fast one peer runs one model."""

    alone: float
    """Seconds for one token, and `each` more for each answer that runs there, itself included."""
    each: float
    prefill: float
    """Seconds for one token of a prompt."""
    load: float
    """Seconds until a cold model is ready."""
    doubt: float
    """How little of this was measured: 1: nothing, towards 0."""

    def per_token(self, concurrency: float) -> float:
        """Seconds for one token of an answer while `concurrency` of them run."""
        return self.alone + self.each * max(concurrency, 1.0)


@dataclass(slots=True)
class _Sums:
    """Weighted by tokens, fading with tokens and with time."""

    weight: float = 0.0
    concurrency: float = 0.0
    squares: float = 0.0
    seconds: float = 0.0
    products: float = 0.0

    def scale(self, factor: float) -> None:
        self.weight *= factor
        self.concurrency *= factor
        self.squares *= factor
        self.seconds *= factor
        self.products *= factor

    def add(self, weight: float, concurrency: float, seconds: float) -> None:
        self.weight += weight
        self.concurrency += weight * concurrency
        self.squares += weight * concurrency * concurrency
        self.seconds += weight * seconds
        self.products += weight * concurrency * seconds


@dataclass(slots=True)
class _Measured:
    at: float
    decode: _Sums = field(default_factory=_Sums)
    read_tokens: float = 0.0
    read_seconds: float = 0.0
    load: float = 0.0

    def fade(self, now: float) -> None:
        factor = 0.5 ** (max(now - self.at, 0.0) / _HALF_LIFE)
        self.at = max(now, self.at)
        self.decode.scale(factor)
        self.read_tokens *= factor
        self.read_seconds *= factor


class Speeds:
    """Of all peers and models. Reads no clock."""

    def __init__(self) -> None:
        self._measured: Recent[tuple[PeerId, ModelName], _Measured] = Recent(_KEPT_MAX)

    def decoded(
        self, peer: PeerId, model: ModelName, tokens: float, seconds: float, *, concurrency: float, now: float
    ) -> None:
        """`tokens` of one answer came in `seconds`, while `concurrency` answers ran there."""
        if tokens <= 0 or seconds < 0:
            return
        measured = self._of(peer, model, now)
        measured.decode.scale(math.exp(-tokens / _MEMORY_TOKENS))
        per_token = min(max(seconds / tokens, _SECONDS_PER_TOKEN_MIN), _SECONDS_MAX)
        measured.decode.add(tokens, min(max(concurrency, 1.0), _CONCURRENCY_MAX), per_token)

    def read(self, peer: PeerId, model: ModelName, tokens: float, seconds: float, now: float) -> None:
        """`tokens` of a prompt, without those that were cached, took `seconds`."""
        if tokens <= 0 or seconds <= 0:
            return
        measured = self._of(peer, model, now)
        kept = math.exp(-tokens / (4 * _MEMORY_TOKENS))
        measured.read_tokens = kept * measured.read_tokens + tokens
        measured.read_seconds = kept * measured.read_seconds + min(seconds, tokens * _SECONDS_MAX)

    def loaded(self, peer: PeerId, model: ModelName, seconds: float, now: float) -> None:
        """A cold model was ready after `seconds`."""
        self._of(peer, model, now).load = min(max(seconds, 0.0), _SECONDS_MAX)

    def measured_alone(self, peer: PeerId, model: ModelName, now: float) -> float | None:
        """Seconds for one token with nobody else there, measured; None: it was not, or long ago."""
        measured = self._measured.get((peer, model))
        if measured is None:
            return None
        measured.fade(now)
        sums = measured.decode
        if sums.weight < _PRIOR_TOKENS:
            return None
        return alone_of(sums.seconds / sums.weight, sums.concurrency / sums.weight)

    def of(self, peer: PeerId, model: ModelName, prior: Prior, now: float) -> PeerSpeed:
        """What `peer` is expected to do, from what was measured and, the less that is, from `prior`."""
        measured = self._measured.get((peer, model)) or _Measured(now)
        measured.fade(now)
        alone, each = _line(measured.decode, prior)
        read_tokens = measured.read_tokens + _PRIOR_TOKENS
        read_seconds = measured.read_seconds + _PRIOR_TOKENS * prior.prefill
        return PeerSpeed(
            alone=alone,
            each=each,
            prefill=max(read_seconds / read_tokens, _SECONDS_PER_TOKEN_MIN),
            load=measured.load or prior.load,
            doubt=_PRIOR_TOKENS / (measured.decode.weight + _PRIOR_TOKENS),
        )

    def _of(self, peer: PeerId, model: ModelName, now: float) -> _Measured:
        measured = self._measured.get((peer, model))
        if measured is None:
            theirs = [key for key in self._measured if key[0] == peer]
            if len(theirs) >= _PER_PEER_MAX:
                self._measured.drop(theirs[0])
            measured = _Measured(now)
            self._measured.put((peer, model), measured)
        measured.fade(now)
        return measured

    def __len__(self) -> int:
        return len(self._measured)


def alone_of(per_token: float, concurrency: float) -> float:
    """Seconds for one token with nobody else there, where one takes `per_token` at `concurrency`, usually."""
    return per_token * (1 + USUAL_RISE) / (1 + USUAL_RISE * max(concurrency, 1.0))


def _line(measured: _Sums, prior: Prior) -> tuple[float, float]:
    """`alone` and `each` of the line that fits what was measured, drawn towards `prior`."""
    believed = alone_of(max(prior.per_token, _SECONDS_PER_TOKEN_MIN), prior.concurrency)
    if measured.weight <= 0:
        return _split(believed, believed * USUAL_RISE / (1 + USUAL_RISE), 1.0)
    concurrency = measured.concurrency / measured.weight
    seconds = measured.seconds / measured.weight
    # The prior says how fast, and nothing about the slope: it counts where the measurements are.
    there = believed * (1 + USUAL_RISE * concurrency) / (1 + USUAL_RISE)
    spread = max(measured.squares - measured.weight * concurrency**2, 0.0)
    together = measured.products - measured.weight * concurrency * seconds
    usual = seconds * USUAL_RISE / (1 + USUAL_RISE * concurrency)
    each = (together + _SLOPE_TOKENS * usual) / (spread + _SLOPE_TOKENS)
    level = (measured.weight * seconds + _PRIOR_TOKENS * there) / (measured.weight + _PRIOR_TOKENS)
    return _split(level, each, concurrency)


def _split(seconds: float, each: float, concurrency: float) -> tuple[float, float]:
    """`alone` and `each` of the line of that slope through that point."""
    # More answers never make one faster, and not all of its time comes from the others.
    each = min(max(each, 0.0), seconds / concurrency)
    return max(seconds - each * concurrency, 0.0), each
