"""One chunk of a file that was hashed, or a reason: never anything else than what was hashed. Blocks."""

from __future__ import annotations

import os

from node.store.fingerprint import Fingerprint
from node.store.hash_cache import FileHashes
from node.store.hashing import read_exactly
from p2p.blobs.errors import ChunkUnavailable
from p2p.blobs.manifest import CHUNK_SIZE, HASH_SIZE, chunk_count, chunk_size, hash_chunk


class SilentChange(ChunkUnavailable):
    """A file's content changed, and neither its size nor its time did."""


def read_chunk(hashes: FileHashes, chunk: int) -> bytes:
    """The bytes of a chunk of the file that `hashes` are of.

    Raises:
      ChunkUnavailable: the file changed, is gone, or cannot be read, or has no such chunk.
      SilentChange: it changed, and what is known of its hashes will go on to look true.
    """
    if not 0 <= chunk < chunk_count(hashes.fingerprint.size_bytes):
        raise ChunkUnavailable(f"{hashes.path} has no chunk {chunk}")
    size_bytes = chunk_size(hashes.fingerprint.size_bytes, chunk)
    try:
        with hashes.path.open("rb", buffering=0) as file:
            if Fingerprint.of(os.fstat(file.fileno())) != hashes.fingerprint:
                raise ChunkUnavailable(f"{hashes.path} has changed since it was hashed")
            file.seek(chunk * CHUNK_SIZE)
            data = read_exactly(file, size_bytes)
    except OSError as error:
        raise ChunkUnavailable(f"{hashes.path} cannot be read: {error.strerror}") from error
    # Some file systems know times to two seconds only, and mapped memory changes a file without any.
    if hash_chunk(data) != hashes.chunks[chunk * HASH_SIZE : (chunk + 1) * HASH_SIZE]:
        raise SilentChange(f"chunk {chunk} of {hashes.path} is not what was hashed")
    return data
