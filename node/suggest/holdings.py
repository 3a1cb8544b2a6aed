"""Holdings: who has which model of a gallery already. Pure.

The same file under any name is the same model. Where one side does not know its file, the same name is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from ledger.records import ModelRecord
from node.sources.gallery_index import GalleryEntry
from node.suggest.machine import Machine
from node.suggest.stated import sha256_of


class Holdings:
    """Of all machines: looked up at once, since a gallery has thousands of models."""

    def __init__(self, machines: Iterable[Machine]) -> None:
        self._by_sha256: defaultdict[str, list[tuple[Machine, ModelRecord]]] = defaultdict(list)
        self._by_name: defaultdict[str, list[tuple[Machine, ModelRecord]]] = defaultdict(list)
        for machine in machines:
            for record in machine.records:
                self._by_name[record.name.casefold()].append((machine, record))
                if record.sha256:
                    self._by_sha256[record.sha256].append((machine, record))

    def of(self, entry: GalleryEntry) -> Sequence[tuple[Machine, ModelRecord]]:
        """Who has the model of `entry`, each once, and what it says of it."""
        sha256 = sha256_of(entry)
        named = [
            (machine, record)
            for machine, record in self._by_name.get(entry.name.casefold(), ())
            if not (sha256 and record.sha256)
        ]
        held = [*self._by_sha256.get(sha256, ()), *named] if sha256 else named
        # One may have it under several names.
        once: dict[str, tuple[Machine, ModelRecord]] = {}
        for machine, record in held:
            once.setdefault(machine.name, (machine, record))
        return list(once.values())
