"""A sha256 that can be put aside at a chunk's end, and gone on with after a restart.

    digest = ResumableSha256()
    digest.update(chunk)
    state = digest.state()                      32 bytes; None where this Python cannot say
    ResumableSha256.resume(state, size_bytes)   as if it had been fed all of that

`hashlib` has it and does not give it away, so OpenSSL, on which it is built, is asked directly through
`ctypes`. At the end of a block (64 bytes) all that a sha256 remembers is eight numbers and how much it was
fed: a state that was read from a disk can be wrong, but cannot break anything. Where OpenSSL cannot be asked
(it is linked into Python without its names, or too old or new), `hashlib` does the work, and nothing can be
resumed.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import struct
import sys
from functools import cache
from pathlib import Path

STATE_SIZE = 32
_BLOCK_SIZE = 64
_SIZE_MAX = 2**61
"""Bytes: a sha256 counts bits, in 64 of them."""
_CONTEXT = struct.Struct("=8I2I64s2I")
"""OpenSSL's SHA256_CTX: state, bits that were fed (low, high), a block that is not full, its size, the
digest's size."""


class ResumableSha256:
    """The sha256 of the bytes it was fed."""

    def __init__(self) -> None:
        self._size_bytes = 0
        self._library = _openssl()
        self._digest = hashlib.sha256() if self._library is None else None
        self._context = ctypes.create_string_buffer(_CONTEXT.size)
        if self._library is not None:
            self._library.SHA256_Init(self._context)

    @classmethod
    def resume(cls, state: bytes, size_bytes: int) -> ResumableSha256 | None:
        """One that was fed `size_bytes` bytes and was in `state` then; None: that cannot be, or not here."""
        digest = cls()
        if (
            digest._library is None
            or len(state) != STATE_SIZE
            or size_bytes % _BLOCK_SIZE
            or size_bytes >= _SIZE_MAX
        ):
            return None
        digest._size_bytes = size_bytes
        digest._context.raw = _context(state, size_bytes)
        return digest

    def update(self, data: bytes) -> None:
        """Feed it. Other threads run meanwhile."""
        self._size_bytes += len(data)
        if self._library is None:
            assert self._digest is not None
            self._digest.update(data)
        else:
            self._library.SHA256_Update(self._context, data, len(data))

    def hexdigest(self) -> str:
        """Of what it was fed so far; it can be fed more."""
        if self._library is None:
            assert self._digest is not None
            return self._digest.hexdigest()
        context = ctypes.create_string_buffer(self._context.raw, _CONTEXT.size)
        digest = ctypes.create_string_buffer(32)
        self._library.SHA256_Final(digest, context)
        return digest.raw.hex()

    def state(self) -> bytes | None:
        """To resume it from; None inside of a block, or where that cannot be had."""
        if self._library is None or self._size_bytes % _BLOCK_SIZE:
            return None
        return struct.pack(">8I", *_CONTEXT.unpack(self._context.raw)[:8])


def _context(state: bytes, size_bytes: int) -> bytes:
    low, high = (8 * size_bytes) & 0xFFFFFFFF, (8 * size_bytes) >> 32
    return _CONTEXT.pack(*struct.unpack(">8I", state), low, high, b"", 0, 32)


@cache
def _openssl() -> ctypes.CDLL | None:
    """The library with sha256's three functions, once it has shown that it does what `hashlib` does."""
    for place in _places():
        try:
            library = ctypes.CDLL(place)
            for name in ("SHA256_Init", "SHA256_Update", "SHA256_Final"):
                getattr(library, name).restype = ctypes.c_int
            library.SHA256_Init.argtypes = [ctypes.c_void_p]
            library.SHA256_Update.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
            library.SHA256_Final.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
        except (OSError, AttributeError):
            continue
        if _works(library):
            return library
    return None


def _places() -> list[str | None]:
    """Where that library may be: what `_hashlib` was linked with is found through it."""
    spec = importlib.util.find_spec("_hashlib")
    if spec is None:
        return []
    if spec.origin is None or not spec.has_location:
        return [None]  # It is part of the program itself, and so is its library.
    if sys.platform == "win32":
        # The functions of a DLL are found in it alone.
        return [str(path) for path in sorted(Path(spec.origin).parent.glob("libcrypto-*.dll"))]
    return [spec.origin]


def _works(library: ctypes.CDLL) -> bool:
    # More room than a context takes: one of another shape must not write beyond it.
    context, digest = ctypes.create_string_buffer(4096), ctypes.create_string_buffer(32)
    first, second = bytes(range(256)) * 2, b"and the rest"
    library.SHA256_Init(context)
    library.SHA256_Update(context, first, len(first))
    *numbers, low, high, _, pending, digest_size = _CONTEXT.unpack(context.raw[: _CONTEXT.size])
    if (low, high, pending, digest_size) != (8 * len(first), 0, 0, 32):
        return False
    context.raw = _context(struct.pack(">8I", *numbers), len(first)).ljust(len(context), b"\0")
    library.SHA256_Update(context, second, len(second))
    library.SHA256_Final(digest, context)
    return digest.raw == hashlib.sha256(first + second).digest()
