"""What it costs to have a peer serve a request: the seconds until its last token.

    slot       until a slot is free, where all are taken
    queue      until the prompts before it are read
    load       until a cold model is ready
    prefill    until its own prompt is read, without what the peer has kept of it
    decode     its answer, at the pace of so many answers at once
    travel     the round trip
    silence    as long again as an answer of ours there has been silent beyond what is usual
    caution    for a peer that was not measured: our requests there count as one after the other
    failures   what one loses by asking in vain, as often as it fails

Pure arithmetic over what the router knows. Each term grows with what it is made of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from federation.speeds import PeerSpeed


@dataclass(frozen=True, slots=True)
class Remaining:
    """What an answer that runs on a peer still needs, as far as we can tell."""

    prompt_tokens: float
    """Not read yet; 0 once its first token came."""
    answer_tokens: float
    """Expected still to come."""


@dataclass(frozen=True, slots=True)
class PeerWork:
    """What a peer has to do before and beside a request."""

    slots: int
    running: Sequence[Remaining]
    """Our own, a row for each slot they hold."""
    others: float
    """Answers of others, by its reports; a part of one where a report is old."""
    queued: float
    """Requests that wait there."""
    typical: Remaining
    """What one of others still needs, for all we know."""
    silence: float
    """Seconds that one of ours has been silent beyond what is usual."""
    is_cold: bool
    round_trip: float
    times: float
    """How often one has to ask it until it goes well."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds, by what takes them."""

    slot: float = 0.0
    queue: float = 0.0
    load: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    travel: float = 0.0
    silence: float = 0.0
    caution: float = 0.0
    failures: float = 0.0

    @property
    def total(self) -> float:
        """Until the last token."""
        return math.fsum(getattr(self, term.name) for term in fields(self))

    @property
    def first_token(self) -> float:
        """Until the first one."""
        return self.total - self.decode


def cost(prompt_tokens: float, answer_tokens: float, choices: int, peer: PeerWork, speed: PeerSpeed) -> Cost:
    """What a request costs at `peer`: `prompt_tokens` are to be read there, `answer_tokens` are expected."""
    ahead = sum(each.prompt_tokens for each in peer.running) + peer.queued * peer.typical.prompt_tokens
    busy = len(peer.running) + peer.others
    slot = _slot_wait(choices, peer, speed)
    queue = ahead * speed.prefill
    prefill = prompt_tokens * speed.prefill
    decode = answer_tokens * speed.per_token(min(busy, max(peer.slots - choices, 0)) + choices)
    load = speed.load if peer.is_cold else 0.0
    expected = slot + queue + load + prefill + decode + peer.round_trip
    caution = expected * speed.doubt * len(peer.running)
    return Cost(
        slot=slot,
        queue=queue,
        load=load,
        prefill=prefill,
        decode=decode,
        travel=peer.round_trip,
        silence=peer.silence,
        caution=caution,
        failures=(expected + peer.silence + caution) * (peer.times - 1),
    )


def _slot_wait(choices: int, peer: PeerWork, speed: PeerSpeed) -> float:
    """Seconds until as many slots are free as the request needs, and those before it have left."""
    slots = max(peer.slots, 1)
    others = peer.others + peer.queued
    missing = len(peer.running) + others + min(choices, slots) - slots
    if missing <= 0:
        return 0.0
    tokens = sum(each.answer_tokens for each in peer.running) + others * peer.typical.answer_tokens
    # Slots work side by side: all of it is done after a slot's part of it. Of as many answers as there are
    # slots the first ends after a slot's part of that, and so on, if they end at any time alike.
    return tokens / slots * min(missing / slots, 1.0) * speed.per_token(slots)
