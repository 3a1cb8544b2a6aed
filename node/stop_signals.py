"""The signals by which somebody asks a program to stop, as far as this platform has them."""

from __future__ import annotations

import signal
from typing import Final

STOP_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Ctrl-C, a service manager, a terminal that is closed; Windows has no word for the last."""
