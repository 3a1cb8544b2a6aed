"""How many layers of a model run on the GPU, where nobody said so: as many as fit what is free there.

llama.cpp moves them from the end: what follows the last layer first, then the last layer, and so on.
Each takes its contexts along, so those count too. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

_RESERVE = 512 * 2**20
"""Bytes of each device that are left alone: its driver takes some hundred of them for our process."""
_RESERVE_SHARE = 0.05
"""Of what is free: other programs draw on the same screen, and allocators waste some."""


def layers_that_fit(parts: Sequence[int], free_bytes: Sequence[int], compute_bytes: int) -> int:
    """How many of `parts` fit, from the first on.

    Args:
      parts: bytes of each, in the order in which they move (`memory_estimate.movable_parts`).
      free_bytes: of each device. None: nothing fits.
      compute_bytes: what one batch needs on a device, whatever is there.
    """
    room = sum(
        max(free - max(_RESERVE, int(free * _RESERVE_SHARE)) - compute_bytes, 0) for free in free_bytes
    )
    count = 0
    for part in parts:
        room -= part
        if room < 0:
            break
        count += 1
    return count
