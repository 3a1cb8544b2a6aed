"""Circuits: which peers fail, and when to try them again.

    closed --3 failures in a row--> open --after a while--> half-open: one request tries
       ^                              ^                          |
       +------- it succeeded ---------|--------------------------+
                                      +---- it failed: open for twice as long

Per peer and model. A peer that fails fast looks free, so below three failures it is not
left out but made expensive: what it is expected to take is multiplied by how often one
would have to ask. "Busy" is not "sick": who refuses for want of a slot is not counted.

Several answers that one crash ends are one failure: only what began after the last
failure can show another one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from federation.recent import Recent
from ledger.records import ModelName
from p2p.peer import PeerId

FAILURES_MAX = 3
"""In a row. One is chance, two may be one cause; an engine that crashed is back within that."""
_OPEN_FOR = 1.0
"""Seconds, the first time: an engine's restart with a small model takes about one."""
_OPEN_FOR_MAX = 60.0
"""Seconds. A machine that was mended is of use again within a minute, and one that stays broken costs a
request a minute one silent retry."""
_FADE = 0.8
"""What the share of failures keeps with each outcome: the last five count most."""
_HALF_LIFE = 30.0
"""Seconds in which it halves while nothing is tried."""
_TIMES_MAX = 10.0
"""As often as one is taken to have to ask, at most: the circuit does the rest."""
_KEPT_MAX = 4096
"""Peers and models: as many as a ledger has places. Nothing is kept of who never failed."""


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    """In a row."""
    share: float = 0.0
    """Of outcomes that were failures, as of `noted_at`."""
    noted_at: float = 0.0
    failed_at: float = -math.inf
    open_until: float = -math.inf
    has_probe: bool = False

    def share_at(self, now: float) -> float:
        return self.share * math.pow(0.5, (now - self.noted_at) / _HALF_LIFE)

    def note(self, outcome: float, now: float) -> None:
        self.share = _FADE * self.share_at(now) + (1 - _FADE) * outcome
        self.noted_at = now


class Circuits:
    """Of all peers. Told what began and how it ended; reads no clock."""

    def __init__(self) -> None:
        self._circuits: Recent[tuple[PeerId, ModelName], _Circuit] = Recent(_KEPT_MAX)

    def retry_in(self, peer: PeerId, model: ModelName, now: float) -> float:
        """Seconds until one more request may try; 0: now; infinite: until the one that tries has ended."""
        circuit = self._circuits.get((peer, model))
        if circuit is None or circuit.failures < FAILURES_MAX:
            return 0.0
        if now < circuit.open_until:
            return circuit.open_until - now
        return math.inf if circuit.has_probe else 0.0

    def failures(self, peer: PeerId, model: ModelName) -> int:
        """In a row."""
        circuit = self._circuits.get((peer, model))
        return circuit.failures if circuit else 0

    def times(self, peer: PeerId, model: ModelName, now: float) -> float:
        """How often one has to ask until it goes well, 1 or more."""
        circuit = self._circuits.get((peer, model))
        if circuit is None:
            return 1.0
        return min(1 / max(1 - circuit.share_at(now), 1 / _TIMES_MAX), _TIMES_MAX)

    def began(self, peer: PeerId, model: ModelName) -> bool:
        """A request is sent. Returns whether it is the one that tries a half-open circuit."""
        circuit = self._circuits.get((peer, model))
        if circuit is None or circuit.failures < FAILURES_MAX:
            return False
        circuit.has_probe = True
        return True

    def abandoned(self, peer: PeerId, model: ModelName) -> None:
        """What tried a half-open circuit ended without showing anything: the next one may try."""
        circuit = self._circuits.get((peer, model))
        if circuit is not None:
            circuit.has_probe = False

    def succeeded(self, peer: PeerId, model: ModelName, now: float) -> None:
        """It gave an answer."""
        circuit = self._circuits.get((peer, model))
        if circuit is not None:
            circuit.failures = 0
            circuit.has_probe = False
            circuit.note(0.0, now)

    def failed(self, peer: PeerId, model: ModelName, began_at: float, now: float) -> None:
        """A request that was sent at `began_at` failed."""
        circuit = self._circuits.get((peer, model))
        if circuit is None:
            circuit = _Circuit(noted_at=now)
            self._circuits.put((peer, model), circuit)
        if began_at < circuit.failed_at:
            return
        circuit.has_probe = False
        circuit.failed_at = now
        circuit.failures += 1
        circuit.note(1.0, now)
        if circuit.failures >= FAILURES_MAX:
            # Exponents stay small: beyond the longest they would only overflow.
            again = min(circuit.failures - FAILURES_MAX, 10)
            circuit.open_until = now + min(_OPEN_FOR * 2**again, _OPEN_FOR_MAX)

    def __len__(self) -> int:
        return len(self._circuits)
