"""libp2p's Noise as a trio stream: encrypted, and the peer's id proved.

The handshake and the encryption are the library's. This fits it between two trio
streams, and is the border where its exceptions turn into ours.

One task sends and one receives; a cancelled call leaves the stream unusable.
"""

from __future__ import annotations

from collections.abc import Awaitable

import trio
from cryptography.exceptions import InvalidTag
from libp2p.crypto.ed25519 import create_new_key_pair as ed25519_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as x25519_key_pair
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.security.noise.transport import PROTOCOL_ID, Transport
from libp2p.security.secure_session import SecureSession
from noise.exceptions import NoiseInvalidMessage

from p2p.errors import Unreachable
from p2p.identity import Identity
from p2p.peer import PeerId, parse_peer_id

NOISE_PROTOCOL_ID = str(PROTOCOL_ID)

_READ_SIZE = 64 * 1024
"""One read: all but the largest Noise messages (65,537 bytes with their length) come whole."""


class Noise:
    """Handshakes in the name of one identity."""

    def __init__(self, identity: Identity) -> None:
        # Noise has a key of its own, which the identity signs; a new one at each start is as good.
        self._transport = Transport(ed25519_key_pair(identity.seed), x25519_key_pair().private_key)

    async def dial(self, transport: trio.abc.Stream, peer: PeerId) -> NoiseStream:
        """Secure `transport` to `peer`, which must answer.

        Raises:
          Unreachable: somebody else answered, or nobody who speaks Noise.
        """
        connection = _LibraryConnection(transport)
        return await _secured(
            transport, self._transport.secure_outbound(connection, ID.from_base58(peer)), str(peer)
        )

    async def accept(self, transport: trio.abc.Stream) -> NoiseStream:
        """Secure `transport` to whoever dialled us; `peer` of the result says who.

        Raises:
          Unreachable: the other end does not speak Noise, or its key is not Ed25519.
        """
        return await _secured(
            transport, self._transport.secure_inbound(_LibraryConnection(transport)), "the dialler"
        )


async def _secured(
    transport: trio.abc.Stream, handshake: Awaitable[SecureSession], expected: str
) -> NoiseStream:
    try:
        session = await handshake
        return NoiseStream(transport, session, parse_peer_id(session.get_remote_peer().to_base58()))
    except Exception as error:
        # What the peer sends is parsed here by several libraries with errors of their own; whatever
        # they make of it, this connection is not usable, and no other is touched.
        raise Unreachable(f"no Noise handshake with {expected}: {error!r}") from error


class NoiseStream(trio.abc.Stream):
    """A stream to `peer` that nobody else can read or change."""

    def __init__(self, transport: trio.abc.Stream, session: SecureSession, peer: PeerId) -> None:
        self.peer = peer
        self._transport = transport
        self._session = session
        self._unread = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._session.write(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await self._transport.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self._unread:
            try:
                self._unread = await self._session.read()
            except (BaseLibp2pError, NoiseInvalidMessage, InvalidTag) as error:
                raise trio.BrokenResourceError("what arrived is not from the peer") from error
        size = len(self._unread) if max_bytes is None else max_bytes
        data, self._unread = self._unread[:size], self._unread[size:]
        return data

    async def aclose(self) -> None:
        await self._transport.aclose()


class _LibraryConnection:
    """A trio stream in the shape in which the library takes connections."""

    def __init__(self, transport: trio.abc.Stream) -> None:
        self._transport = transport
        self._unread = bytearray()

    async def read(self, size: int) -> bytes:
        """`size` bytes; the library asks for two, then for a whole message."""
        while len(self._unread) < size:
            data = await self._transport.receive_some(_READ_SIZE)
            if not data:
                raise trio.BrokenResourceError("the connection ended")
            self._unread += data
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data

    async def write(self, data: bytes) -> None:
        await self._transport.send_all(data)
