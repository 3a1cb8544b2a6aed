"""Where a download puts what comes: a `ChunkSink`, as fetches have, which it gets once it knows what the file
is."""

from __future__ import annotations

from typing import Protocol

from p2p.blobs.sink import ChunkSink


class OpenTarget(Protocol):
    """How a download gets its sink."""

    async def __call__(self, size_bytes: int, version: str) -> ChunkSink:
        """The sink for a file of that size and version (a text of at most 200 bytes).

        What an earlier run left of the same size and version is still in it; of any other it is thrown away.
        Called again when the file has changed at its source: what the sink from before holds is thrown away
        too.

        Raises:
          BlobError, NodeError: there is no place for it.
        """
        ...
