"""Errors of node/store/, one line each, made to be shown to a person.

StoreError (a NodeError)
+- FileInTheWay       another file has the name already; it is left alone
+- PartialInUse       another node, or another task of this one, writes the same file
+- WrongContent       all chunks are there, and together they are not the file that was promised

What a disk refuses is a `SinkFull` or `SinkFailed` of `p2p/blobs/errors.py`; what is wrong with a model's
file is in `node/models/errors.py`.
"""

from __future__ import annotations

from node.errors import NodeError


class StoreError(NodeError):
    """Root of what node/store/ raises."""


class FileInTheWay(StoreError):
    """A file of that name is there."""


class PartialInUse(StoreError):
    """Somebody else writes this file at this moment."""


class WrongContent(StoreError):
    """The file is not the one whose sha256 was promised."""
