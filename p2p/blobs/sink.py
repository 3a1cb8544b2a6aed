"""Where a fetch puts what it got. A port; `node/` has a file behind it that fills up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from p2p.blobs.have_map import HaveMap


class ChunkSink(Protocol):
    """One file that is being fetched."""

    @property
    def have(self) -> HaveMap:
        """The chunks that were written, now or before a restart, less those that the disk did not give back
        as they were. Read, and never changed, by who fetches."""

    async def write(self, chunk: int, pieces: Sequence[bytes]) -> None:
        """Keep what `pieces` are together, whose hash the caller has checked, and say so in `have`.

        In pieces as it came: to join megabytes takes milliseconds in which no other thread runs.

        Calls for several chunks may overlap. Cancelled: the chunk may be kept or not, `have` says which.

        Raises:
          SinkFull: there is no room. All that `have` says is kept.
          SinkFailed: the disk does not take it. All that `have` says is kept.
        """
