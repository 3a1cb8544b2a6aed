"""Models that are on their way, as the swarm is told of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from ledger.records import ModelName, ModelRecord


class Coming:
    """Their records, while somebody gets them."""

    def __init__(self) -> None:
        self.on_change: Callable[[], None] = _ignore_change
        """Called when the records may have changed. It must not raise."""
        self._records: dict[ModelName, ModelRecord] = {}

    @contextmanager
    def shown(self, record: ModelRecord) -> Iterator[None]:
        """Within, the swarm is told that the model of `record` is on its way here."""
        self._records[record.name] = record
        self.on_change()
        try:
            yield
        finally:
            # Of two that get the same name, which only one of them can have, the latter is shown.
            if self._records.get(record.name) is record:
                del self._records[record.name]
            self.on_change()

    def beside(self, served: Collection[ModelRecord]) -> Sequence[ModelRecord]:
        """What is coming besides what is `served`: one that is being replaced is served until then."""
        names = {record.name for record in served}
        return [record for name, record in sorted(self._records.items()) if name not in names]


def _ignore_change() -> None:
    pass
