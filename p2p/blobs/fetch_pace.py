"""Fetch pace: what comes from seeders is read slowly while this node infers.

Who does not read lets the window of its stream fill, and the seeder stops sending on it: so neither
decrypting, nor checking, nor writing takes a core from an engine for longer than a piece needs.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from p2p.allowance import Allowance
from p2p.blobs.blob_messages import PIECE_SIZE_MAX

BUSY_RATE = 20e6
"""Bytes a second that are read of all seeders together while this node infers: as much as a seeder sends
then, for the same reason (`upload.py`)."""

_BURST_TIME = 0.02
"""Seconds of that rate which may come at once: a sleep ends some milliseconds late, to which `Allowance` adds
ten, and what could not be read meanwhile would be lost to the rate."""


class FetchPace:
    """Of all fetches of a node together."""

    def __init__(self, is_inference_busy: Callable[[], bool], busy_rate: float = BUSY_RATE) -> None:
        """`is_inference_busy` is asked after each piece: it must be quick."""
        self._is_inference_busy = is_inference_busy
        self._allowance = Allowance(max(PIECE_SIZE_MAX, _BURST_TIME * busy_rate), busy_rate)

    async def after(self, size_bytes: int) -> None:
        """Return when the next piece may be read, after one of that size."""
        if not self._is_inference_busy():
            return
        now = trio.current_time()
        self._allowance.spend(size_bytes, now)
        if self._allowance.is_spent:
            await trio.sleep_until(self._allowance.next_at)
