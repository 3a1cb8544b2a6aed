"""The adviser: what models there are, and which fit. Reads the galleries, and asks for what the machines are.

Both answers are plain data (`advice_map.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import trio

from node.sources.errors import SourceRefused, SourceUnavailable
from node.sources.galleries import open_galleries
from node.sources.gallery_index import GalleryEntry
from node.sources.gallery_source import GallerySource
from node.suggest.advice_map import advice_map, models_map
from node.suggest.machine import Machine
from node.suggest.stated import Purpose
from node.suggest.suggest import advise

LookAtMachines: TypeAlias = Callable[[], Awaitable[Sequence[Machine]]]
"""Which machines there are, and what each has now."""

_WITHOUT_NETWORK = (
    "without a network, `localai-node models add demo` serves the bundled model, and --gallery FILE reads a"
    " gallery of this machine"
)


class Adviser:
    """Of one node, or of a machine without one."""

    def __init__(self, galleries: Sequence[str], cache: Path, look: LookAtMachines) -> None:
        """`galleries`: as people write them (`gallery_source.py`). `cache`: for copies of their indexes.

        Raises:
          BadReference: one of them is none.
        """
        self._sources = [GallerySource.parse(text) for text in galleries]
        self._cache = cache
        self._look = look

    async def suggest(
        self, purpose: Purpose, *, is_all: bool, galleries: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Which models for `purpose` fit, of `galleries` if some are given; with `is_all` all that there are,
        and why the others do not.

        Raises:
          SourceError: no gallery can be read; says what can be done without.
        """
        entries, warnings = await self._read(galleries)
        machines = await self._look()

        def answer() -> dict[str, Any]:
            advice = advise(entries, machines, purpose)
            return advice_map(advice, purpose, is_all=is_all, warnings=warnings)

        # A gallery has thousands of models: tens of milliseconds that no stream shall wait for.
        return await trio.to_thread.run_sync(answer)

    async def available(self, text: str, *, galleries: Sequence[str] = ()) -> dict[str, Any]:
        """Which models have the words of `text`, and who has them.

        Raises: as `suggest`.
        """
        entries, warnings = await self._read(galleries)
        machines = await self._look()
        return await trio.to_thread.run_sync(lambda: models_map(entries, machines, text, warnings=warnings))

    async def _read(self, galleries: Sequence[str]) -> tuple[Sequence[GalleryEntry], Sequence[str]]:
        """All entries, in the order in which a name is looked up, and warnings."""
        sources = [GallerySource.parse(text) for text in galleries] or self._sources
        async with open_galleries(sources, self._cache) as opened:
            try:
                listing = await opened.listing()
            except (SourceRefused, SourceUnavailable) as error:
                raise SourceUnavailable(f"no gallery can be read ({error}); {_WITHOUT_NETWORK}") from error
        indexes = [index for _, index in listing.indexes]
        warnings = [*listing.warnings, *(warning for index in indexes for warning in index.warnings)]
        return [entry for index in indexes for entry in index.entries], warnings
