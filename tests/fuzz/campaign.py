"""Many near misses against one decoder: what it raised, what it took in, what it kept.

Memory is what Python's own allocator gave out: `tracemalloc` must be running, and `settle` called after it
was started.
"""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from p2p.peer import peer_id_of, public_key_of
from tests.fuzz.decoder import Decoder
from tests.fuzz.mutator import Mutator

GROWTH_MAX = 64 * 1024
"""Bytes that may be held after many mutations and were not after few. Nothing should be; this is for what
comes and goes by itself: free lists, and what the libraries set up when they are first asked for it. A
decoder that kept one byte of each of 100,000 inputs would hold more."""

TAKES_MAX = 160
"""Bytes of memory that one byte of input may cost while it is decoded: 96 for what msgpack makes of it
(`p2p/unpack.py`), and the message that is built from that while that still stands."""
TAKES_BASE = 48 * 1024
"""Besides: an exception with its traceback, the decoders themselves with their buffers, a key of OpenSSL."""

_WARM_UP = 300
"""Mutations before memory is looked at for the first time: enough to have met every branch."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    name: str
    mutations: int
    accepted: int
    refused: int
    growth: int
    """Bytes held at the end that were not after the first few."""
    dearest: float
    """The most memory that one input took, in bytes for each of its own, `TAKES_BASE` left out."""
    seconds: float
    failures: tuple[str, ...]
    """What should not be; a decoder that has some is not tried on."""


def settle() -> None:
    """Bring Python's table of names, through which the keys of msgpack's maps go, to the size that it keeps.

    It takes that when as many names have come and gone as there was room for.
    """
    for number in range(200_000):
        sys.intern(f"a name that comes and goes {number}")


def run(decoder: Decoder, count: int, seed: int) -> Outcome:
    """`count` near misses against `decoder`. The same seed makes the same ones."""
    rng = Random(f"{seed} {decoder.name}")
    mutator = Mutator(rng, decoder.seeds, are_msgpack=decoder.are_msgpack)
    accepted = done = held_before = 0
    dearest = 0.0
    failures: list[str] = []
    begun_at = time.perf_counter()
    for number in range(count):
        if number == min(_WARM_UP, count // 2):
            held_before = _held()
        data = mutator.next()
        done += 1
        try:
            is_accepted, taken = _attempt(decoder, data)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is a finding)
            failures.append(f"{decoder.name}: {error!r} for {data[:2000].hex()}")
            break
        accepted += is_accepted
        dearest = max(dearest, (taken - TAKES_BASE) / max(1, len(data)))
        if taken > TAKES_BASE + TAKES_MAX * len(data):
            failures.append(f"{decoder.name}: {len(data)} bytes took {taken}: {data[:2000].hex()}")
            break
    growth = _held() - held_before if not failures else 0
    if growth > GROWTH_MAX:
        failures.append(f"{decoder.name}: {growth} bytes are held that were not before")
    seconds = time.perf_counter() - begun_at
    return Outcome(decoder.name, done, accepted, done - accepted, growth, dearest, seconds, tuple(failures))


def _attempt(decoder: Decoder, data: bytes) -> tuple[bool, int]:
    """Whether `decoder` takes `data`, and how much memory that took.

    What it took and says again must be taken again, and be the same.
    """
    taken = _memory_for(decoder, data)
    if taken > TAKES_BASE:
        # Python's table of names grows now and then, by a megabyte, on whoever's turn it is.
        taken = min(taken, _memory_for(decoder, data))
    try:
        decoded = decoder.decode(data)
    except decoder.error:
        return False, taken
    again = decoder.again(decoded)
    if again is not None:
        assert decoder.again(decoder.decode(again)) == again, "what was read is not what is said again"
    return True, taken


def _memory_for(decoder: Decoder, data: bytes) -> int:
    """The most that is taken at a time while `data` is decoded."""
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    with suppress(decoder.error):
        decoder.decode(data)
    _, peak = tracemalloc.get_traced_memory()
    return peak - before


def _held() -> int:
    """Bytes that Python holds now, without the ids and keys that are remembered, up to a number, for all."""
    peer_id_of.cache_clear()
    public_key_of.cache_clear()
    # Of each class pattern that was tried Python remembers a name, in up to 4,096 places.
    sys._clear_type_cache()
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
