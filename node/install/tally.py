"""How far all files of one model are, as one number. Reads no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from node.jobs.job import Progress


@dataclass(slots=True)
class Tally:
    """Adds up what each file's supply says, and passes it on."""

    model: str
    on_progress: Callable[[Progress], None]
    step: str = ""
    is_waiting: bool = False
    """Others have to do something first."""
    _sizes: dict[str, int] = field(default_factory=dict)
    _done: dict[str, int] = field(default_factory=dict)
    _sources: dict[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def done_bytes(self) -> int:
        return sum(self._done.values())

    def say(self, step: str, *, is_waiting: bool = False) -> None:
        """What is being done, for a person; or `is_waiting`, and for what."""
        if (step, is_waiting) != (self.step, self.is_waiting):
            self.step, self.is_waiting = step, is_waiting
            self._tell()

    def note(self, file: str, size_bytes: int, done_bytes: int, sources: Mapping[str, int]) -> None:
        """`file` is that far; `sources` are bytes by whom they came from."""
        self._sizes[file], self._done[file] = size_bytes, done_bytes
        # A part may have come from others before.
        self._sources[file] = {**self._sources.get(file, {}), **sources}
        self._tell()

    @property
    def sources(self) -> Mapping[str, int]:
        """Bytes that came, by whom they came from."""
        sources: Counter[str] = Counter()
        for each in self._sources.values():
            sources.update(each)
        return dict(sources)

    def _tell(self) -> None:
        self.on_progress(
            Progress(
                self.step,
                sum(self._sizes.values()),
                self.done_bytes,
                self.sources,
                self.model,
                self.is_waiting,
            )
        )
