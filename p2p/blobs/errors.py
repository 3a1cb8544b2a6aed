"""Errors of p2p/blobs/, split by what the caller can do.

P2PError
+- BlobError
   +- BadFileName        no file of a manifest may be called so: give it another name
   +- BadManifest        bytes, or files, that make no manifest: ask somebody else, or cut the model down
   +- BadHaveMap         bytes that are no have-map of that file
   +- ChunkUnavailable   a file of this node changed, is gone or cannot be read: hash it anew
   +- SinkFull           the disk is full: make room; what was written stays
   +- SinkFailed         the disk does not take it (read-only, broken): use another
   +- NobodyHasIt        no peer that can be reached has it: wait for one, or go to a source

A peer that breaks the blob protocol is a `BadFrame`, as in every other protocol.
"""

from p2p.errors import P2PError


class BlobError(P2PError):
    """Root of what p2p/blobs/ raises."""


class BadFileName(BlobError, ValueError):
    """Not a name that every system takes, for that file and nothing else."""


class BadManifest(BlobError, ValueError):
    """Not a manifest, or one beyond what any model needs."""


class BadHaveMap(BlobError, ValueError):
    """Not the have-map of a file with so many chunks."""


class ChunkUnavailable(BlobError):
    """What this node offered cannot be read as it was hashed."""


class SinkFull(BlobError):
    """No room on the disk for a chunk. It was not written, all before it were."""


class SinkFailed(BlobError):
    """The disk did not take a chunk, and not for want of room."""


class NobodyHasIt(BlobError):
    """No peer gives what is wanted."""
