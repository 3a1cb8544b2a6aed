"""Weighing: whether what comes fits this machine's memory, said before any of it comes.

    larger than the machine's memory      refused: it would be refused, and deleted, once it is here
    more than models may take             a warning: it may be meant for others, `--memory` can be raised,
                                          and its header, which comes with it, tells more than its size

Both are the judgements that a model meets which is here already.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from node.models.catalog import Catalog
from node.store.model_files import PROJECTOR, SETTINGS

LackOfMemory: TypeAlias = Callable[[int], Awaitable[str]]
"""Why a model of so many bytes would hardly be loaded here, for a person; empty: it would."""


class Weighing:
    """Of one order. Sizes become known one by one, or all at once."""

    def __init__(self, catalog: Catalog, lack_of_memory: LackOfMemory, warn: Callable[[str], None]) -> None:
        self._catalog = catalog
        self._lack_of_memory = lack_of_memory
        self._warn = warn
        self._sizes: dict[str, int] = {}
        self._has_warned = False

    async def add(self, model: str, sizes: Mapping[str, int]) -> None:
        """Take in how large some files of `model` are, in bytes, by what a manifest calls them.

        Raises:
          ModelTooLarge: this machine cannot hold what is known of it by now.
        """
        # Neither is loaded.
        weights = {file: size for file, size in sizes.items() if file not in (SETTINGS, PROJECTOR)}
        if weights.items() <= self._sizes.items():
            return
        self._sizes |= weights
        size_bytes = sum(self._sizes.values())
        self._catalog.require_memory(model, size_bytes)
        if not self._has_warned and (lack := await self._lack_of_memory(size_bytes)):
            self._has_warned = True
            self._warn(lack)
