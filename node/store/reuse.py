"""Chunks that another file of this machine has already: copied, not fetched.

A new version of a model, or the same weights with another header, shares chunks with the old one wherever its
bytes lie at the same distance from a chunk's start. They are found by their hashes, among all files that were
ever hashed here and have not changed since, and are compared with them once more on the way.
"""

from __future__ import annotations

from collections.abc import Iterable

import trio

from node.store.chunk_reader import read_chunk
from node.store.hash_cache import FileHashes
from node.store.partial import PartialFile
from p2p.blobs.errors import ChunkUnavailable
from p2p.blobs.manifest import HASH_SIZE

_PLACES_MAX = 4
"""Where one chunk is read from, if those before have changed. Some files are zeros for gigabytes."""


async def reuse_chunks(partial: PartialFile, known: Iterable[FileHashes]) -> int:
    """Fill `partial`, whose chunks' hashes are known, with what the files of `known` have of it.

    Returns how many bytes that is. Cancelled: what was copied stays.

    Raises:
      SinkFull, SinkFailed: as `PartialFile.write`.
    """
    places = await trio.to_thread.run_sync(_find, partial.wanted.hashes, known)
    copied_bytes = 0
    for chunk in list(partial.have.missing()):
        for hashes, place in places.get(_slot(partial.wanted.hashes, chunk), ()):
            try:
                data = await trio.to_thread.run_sync(read_chunk, hashes, place)
            except ChunkUnavailable:
                continue  # That file has changed; another one may have it, or a peer.
            await partial.write(chunk, [data])
            copied_bytes += len(data)
            break
    return copied_bytes


def _find(wanted: bytes, known: Iterable[FileHashes]) -> dict[bytes, list[tuple[FileHashes, int]]]:
    """By the hash of each chunk that is wanted: files that have it, and as which of their chunks."""
    found: dict[bytes, list[tuple[FileHashes, int]]] = {
        _slot(wanted, chunk): [] for chunk in range(len(wanted) // HASH_SIZE)
    }
    for hashes in known if found else ():
        for chunk in range(len(hashes.chunks) // HASH_SIZE):
            places = found.get(_slot(hashes.chunks, chunk))
            if places is not None and len(places) < _PLACES_MAX:
                places.append((hashes, chunk))
    return found


def _slot(hashes: bytes, chunk: int) -> bytes:
    return hashes[chunk * HASH_SIZE : (chunk + 1) * HASH_SIZE]
