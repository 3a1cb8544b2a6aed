"""A msgpack value with its own hash before it, so that half of one is told from a whole one.

    BLAKE3 (32 bytes)  msgpack

For small files that are written in one go: after a power cut there may be anything in them.
"""

from __future__ import annotations

from typing import Any

import msgpack
from blake3 import blake3

from p2p.errors import NotMsgpack
from p2p.unpack import unpack_untrusted

_SEAL_SIZE = 32


def seal(value: object) -> bytes:
    body: bytes = msgpack.packb(value)
    return bytes(blake3(body).digest()) + body


def unseal(data: bytes) -> Any:  # noqa: ANN401 (whatever was sealed)
    """What was sealed; None: that is not what it is any more."""
    seal, body = data[:_SEAL_SIZE], data[_SEAL_SIZE:]
    if blake3(body).digest() != seal:
        return None
    try:
        return unpack_untrusted(body)
    except NotMsgpack:
        return None
