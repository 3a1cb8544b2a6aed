"""Priors: how fast a peer is taken to be before we have measured it.

Its own report, if it made one. Else a guess from its hardware and the model's size, corrected
by how wrong the same guess is for the peers we know, in the median: so where nothing tells
machines apart, a newcomer is taken to be like the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from federation.speeds import Prior, alone_of
from ledger.records import Load

_SIZE_BYTES = 2**30
"""Of a model whose size nobody knows."""
_MEMORY_BYTES_PER_SECOND = 20e9
"""Of two channels of DDR4, half used. Decoding reads all weights for each token: that is what limits it."""
_GPU_BYTES_PER_SECOND = 200e9
"""The same of a graphics card of some years ago."""
_READ_TIMES_FASTER = 8.0
"""A prompt is read so many times faster, for a pass over the weights reads many of its tokens at once; of a
small model on two cores, where computing limits it, four to ten times."""
_DISK_BYTES_PER_SECOND = 500e6
"""Of a SATA SSD."""
_START_SECONDS = 1.0
"""Until an engine's process runs."""


def guess(size_bytes: int, hardware: Mapping[str, Any]) -> float:
    """Seconds for one token alone, of a model of so many bytes on such a machine."""
    speed = _GPU_BYTES_PER_SECOND if hardware.get("gpu") else _MEMORY_BYTES_PER_SECOND
    return max(size_bytes or _SIZE_BYTES, 1) / speed


def correction(known: Iterable[tuple[float, float]]) -> float:
    """How many times longer than guessed peers take, by (seconds for one token alone, guess) of some."""
    ratios = [seconds / guessed for seconds, guessed in known if guessed > 0]
    return median(ratios) if ratios else 1.0


def reported_alone(load: Load | None) -> float | None:
    """Seconds for one token alone, by what a peer reports; None: it reports none."""
    if load is None or load.decode_speed <= 0:
        return None
    return alone_of(1 / load.decode_speed, load.slots_busy)


def prior_of(guessed: float, corrected: float, size_bytes: int, load: Load | None) -> Prior:
    """What is believed of a peer: `guessed`, which others take `corrected` times as long as."""
    per_token, concurrency = guessed * corrected, 1.0
    if load is not None and load.decode_speed > 0:
        # At the concurrency of late, which is most likely the one of now.
        per_token, concurrency = 1 / load.decode_speed, max(load.slots_busy, 1)
    read = per_token / _READ_TIMES_FASTER
    if load is not None and load.prefill_speed > 0:
        read = 1 / load.prefill_speed
    seconds = (size_bytes or _SIZE_BYTES) / _DISK_BYTES_PER_SECOND + _START_SECONDS
    return Prior(per_token, concurrency, read, seconds)
