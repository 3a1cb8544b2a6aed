"""How long this machine has been asleep.

The clocks that programs wait by stand still while a laptop is suspended, and so does the machine that
wakes: as they have it, nothing was late. That the others have closed their connections meanwhile would be
their fault.
"""

from __future__ import annotations

import sys
import time

_DIGITS = 1
"""Tenths of a second: two clocks are read one after the other, and what lies between is no sleep."""


def time_asleep() -> float:
    """Seconds of sleep since this machine started; only differences mean anything.

    Windows' clock goes on while it sleeps: there nothing has to be added, and this is 0.
    """
    if sys.platform == "linux":
        asleep = time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    elif sys.platform == "darwin":
        # There CLOCK_MONOTONIC is the one that goes on.
        asleep = time.clock_gettime(time.CLOCK_MONOTONIC) - time.clock_gettime(time.CLOCK_UPTIME_RAW)
    else:
        asleep = 0.0
    return round(asleep, _DIGITS)
