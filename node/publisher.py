"""What this node says of itself in the ledger, kept true.

    worker changed, presence changed, addresses changed --> publish --> own entries

Writing an equal value writes nothing, so publishing everything anew is the whole
algorithm: no difference has to be tracked, and a restart mends what a crash left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import trio

from ledger.errors import OverQuota
from ledger.ledger import Ledger
from ledger.records import (
    LEAVE_KEY,
    LeaveRecord,
    ModelRecord,
    NodeRecord,
    NodeRole,
    OwnRecord,
    Presence,
    key_of,
    model_key,
)

logger = logging.getLogger(__name__)

_ADDRESS_LOOK_INTERVAL = 30.0
"""Seconds between looks at this machine's addresses: a laptop changes networks, and no event says so."""


class Publisher:
    """Writes this node's record and those of its models."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        name: str,
        role: NodeRole,
        version: str,
        hardware: Mapping[str, Any],
        addresses: Callable[[], Sequence[str]],
        models: Callable[[], Sequence[ModelRecord]],
        labels: tuple[str, ...] = (),
        weight: float = 1.0,
        models_size_max: int = 0,
    ) -> None:
        self._ledger = ledger
        self._identity = NodeRecord(
            name=name,
            role=role,
            version=version,
            hardware=hardware,
            labels=labels,
            weight=weight,
            models_size_max=models_size_max,
        )
        self._addresses = addresses
        self._models = models
        self._presence: Presence = "here"
        self._has_left = False
        self._too_much: set[str] = set()
        """Keys that did not fit when we last tried: each is complained of once, not every half minute."""
        self._is_due = trio.Event()

    @property
    def presence(self) -> Presence:
        """What we last said of ourselves."""
        return self._presence

    def note_change(self) -> None:
        """Publish soon: something of the worker changed. Cheap, and may be called from anywhere in trio."""
        self._is_due.set()

    def set_presence(self, presence: Presence) -> None:
        """Say `presence` at once."""
        self._presence = presence
        self.publish()

    def leave(self) -> None:
        """Say that this node gave its place up, and nothing else any more."""
        self._has_left = True
        self._ledger.leave(LeaveRecord(self._identity.name))

    def publish(self) -> None:
        """Make our entries say what is true now."""
        if self._has_left:
            return
        # Whoever comes back to a swarm it left is there again.
        self._ledger.delete(LEAVE_KEY)
        models = self._models()
        # First, so that what is gone makes room.
        self._forget_except(models)
        node = replace(self._identity, presence=self._presence, addresses=tuple(self._addresses()))
        self._put([node, *models])

    async def run(self) -> None:
        """Publish on every change, and look at the addresses now and then, until cancelled."""
        while True:
            self._is_due = trio.Event()
            self.publish()
            with trio.move_on_after(_ADDRESS_LOOK_INTERVAL):
                await self._is_due.wait()

    def _put(self, records: Iterable[OwnRecord]) -> None:
        """Say what does fit, and complain of what does not."""
        errors: dict[str, OverQuota] = {}
        for record in records:
            try:
                self._ledger.put_record(record)
            except OverQuota as error:
                errors[key_of(record)] = error
        for key in sorted(errors.keys() - self._too_much):
            logger.warning("cannot tell the swarm everything about this node: %s", errors[key])
        self._too_much = set(errors)

    def _forget_except(self, records: Sequence[ModelRecord]) -> None:
        """Delete what we said of models we do not have any more."""
        names = {record.name for record in records}
        for record in self._ledger.model_records(self._ledger.me):
            if record.name not in names:
                self._ledger.delete(model_key(record.name))
