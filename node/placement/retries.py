"""When what failed is tried again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from ledger.records import ModelName
from node.errors import NodeError
from p2p.errors import P2PError

logger = logging.getLogger(__name__)

_FIRST, _LAST = 30.0, 3600.0
"""Seconds until the next try; each time twice as many. What keeps a node from its part is mostly that
others are not there yet, which takes seconds, or a full disk, which takes a person."""


class Retries:
    """The failures of one after the other."""

    def __init__(self) -> None:
        self._failed: dict[ModelName, tuple[float, float]] = {}
        """Until when each waits, and for how long."""

    def due_at(self, model: ModelName) -> float:
        """When it may be tried."""
        return self._failed.get(model, (0.0, 0.0))[0]

    @contextmanager
    def noting(self, model: ModelName, what: str) -> Iterator[None]:
        """What is done within is logged and tried later if it fails."""
        try:
            yield
        except (NodeError, P2PError) as error:
            pause = min(max(_FIRST, 2 * self._failed.get(model, (0.0, 0.0))[1]), _LAST)
            self._failed[model] = trio.current_time() + pause, pause
            logger.warning("cannot %s %s as the swarm wants: %s. Next try in %g s", what, model, error, pause)
        else:
            self._failed.pop(model, None)
