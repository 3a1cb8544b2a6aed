"""The libp2p private network: XSalsa20 under everything, so strangers learn nothing.

    each way:   | nonce, 24 random bytes | everything else, encrypted |

Without the key a peer cannot even tell what is spoken here; with a wrong one it reads
noise. It does not authenticate: Noise on top does that.
Sources: libp2p spec pnet/Private-Networks-PSK-V1.md; D. J. Bernstein, "Extending the
Salsa20 nonce".

Our own because the library's uses plain Salsa20 with 8 nonce bytes, which no other
libp2p implementation understands.
"""

from __future__ import annotations

import secrets
import struct
from typing import Final

import trio
from Crypto.Cipher import Salsa20

_NONCE_SIZE: Final = 24
_HSALSA20_NONCE_SIZE: Final = 16
_READ_SIZE: Final = 64 * 1024
"""One read whose reader names no size; the layers above ask for as much."""

_SIGMA: Final = struct.unpack("<4I", b"expand 32-byte k")
_DIAGONAL: Final = (0, 5, 10, 15)
_QUARTER_ROUNDS: Final = (
    # The columns, then the rows.
    *((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11)),
    *((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14)),
)


def hsalsa20(key: bytes, nonce: bytes) -> bytes:
    """A key (32 bytes) from `key` (32 bytes) and `nonce` (16 bytes)."""
    keys = struct.unpack("<8I", key)
    nonces = struct.unpack("<4I", nonce)
    x = [_SIGMA[0], *keys[:4], _SIGMA[1], *nonces, _SIGMA[2], *keys[4:], _SIGMA[3]]
    for _ in range(10):
        for a, b, c, d in _QUARTER_ROUNDS:
            x[b] ^= _rotate(x[a] + x[d], 7)
            x[c] ^= _rotate(x[b] + x[a], 9)
            x[d] ^= _rotate(x[c] + x[b], 13)
            x[a] ^= _rotate(x[d] + x[c], 18)
    return struct.pack("<8I", *(x[i] for i in (*_DIAGONAL, 6, 7, 8, 9)))


def xsalsa20(key: bytes, nonce: bytes) -> Salsa20.Salsa20Cipher:
    """The XSalsa20 key stream of `key` (32 bytes) and `nonce` (24 bytes)."""
    derived = hsalsa20(key, nonce[:_HSALSA20_NONCE_SIZE])
    return Salsa20.new(key=derived, nonce=nonce[_HSALSA20_NONCE_SIZE:])


def _rotate(value: int, bits: int) -> int:
    value &= 0xFFFFFFFF
    return ((value << bits) | (value >> (32 - bits))) & 0xFFFFFFFF


class PrivateStream(trio.abc.Stream):
    """`transport` with everything on it encrypted under `psk`, and owned by this."""

    def __init__(self, transport: trio.abc.Stream, psk: bytes) -> None:
        self._transport = transport
        self._psk = psk
        self._send_cipher: Salsa20.Salsa20Cipher | None = None
        self._receive_cipher: Salsa20.Salsa20Cipher | None = None
        self._nonce = bytearray()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        nonce = b""
        if self._send_cipher is None:
            nonce = secrets.token_bytes(_NONCE_SIZE)
            self._send_cipher = xsalsa20(self._psk, nonce)
        await self._transport.send_all(nonce + self._send_cipher.encrypt(data))

    async def wait_send_all_might_not_block(self) -> None:
        await self._transport.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while self._receive_cipher is None:
            piece = await self._transport.receive_some(_NONCE_SIZE - len(self._nonce))
            if not piece:
                return b""
            self._nonce += piece
            if len(self._nonce) == _NONCE_SIZE:
                self._receive_cipher = xsalsa20(self._psk, bytes(self._nonce))
        data = await self._transport.receive_some(max_bytes or _READ_SIZE)
        plain: bytes = self._receive_cipher.decrypt(data)
        return plain

    async def aclose(self) -> None:
        await self._transport.aclose()
