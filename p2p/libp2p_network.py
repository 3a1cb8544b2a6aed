"""The network port on real sockets, as libp2p speaks it.

    TCP -> private network -> multistream /noise -> Noise -> multistream /yamux/1.0.0 -> yamux

Any libp2p implementation with the swarm's key can talk to us. From py-libp2p we take the
parts that are good alone (Noise, keys, peer ids). Its swarm, dialler and peerstore are left out:
they dial one address per peer and block it for a minute after a failure, wait 250 ms on
success, and remember addresses that are nobody's. Which address to dial is our caller's to know.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from p2p import multistream
from p2p.connection_table import DIAL_TIME_MAX
from p2p.errors import BadAddress, BadFrame, ListenFailed, P2PError, Unreachable
from p2p.identity import Identity
from p2p.interfaces import concrete_multiaddrs
from p2p.libp2p_stream import NOISE_PROTOCOL_ID, Noise, NoiseStream
from p2p.muxed_network import MuxedNetwork
from p2p.peer import PeerAddress, PeerId
from p2p.private_network import PrivateStream
from p2p.tcp_address import tcp_endpoint, tcp_multiaddr

logger = logging.getLogger(__name__)

_YAMUX_PROTOCOL_ID: Final = "/yamux/1.0.0"
_HANDSHAKES_MAX: Final = 64
"""Inbound at once. An honest one takes milliseconds, so of too many the oldest is given up: it is a
stranger's that says nothing."""


class Libp2pNetwork(MuxedNetwork):
    """A `Network` over TCP."""

    def __init__(self, identity: Identity, psk: bytes, listeners: Sequence[trio.SocketListener]) -> None:
        super().__init__(identity.peer_id)
        self._psk = psk
        self._noise = Noise(identity)
        self._bound = [listener.socket.getsockname()[:2] for listener in listeners]
        self._handshakes: deque[trio.CancelScope] = deque()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, identity: Identity, psk: bytes, *, listen: Sequence[str] = ()
    ) -> AsyncIterator[Libp2pNetwork]:
        """A running network that listens on the multiaddrs `listen`; port 0 is any free one.

        Leaving closes every connection and listener.

        Raises:
          BadAddress: one of `listen` is not a TCP multiaddr.
          ListenFailed: none of `listen` can be listened on, for example because its port is taken.
        """
        # The library logs what a peer did wrong as its own errors; we say it once, with the peer's id.
        logging.getLogger("libp2p").setLevel(logging.CRITICAL)
        listeners = await _listen(listen)
        network = cls(identity, psk, listeners)
        async with trio.open_nursery() as nursery:
            await nursery.start(network._run)
            for listener in listeners:
                nursery.start_soon(trio.serve_listeners, network._accept, [listener])
            try:
                yield network
            finally:
                nursery.cancel_scope.cancel()

    @property
    def listen_addresses(self) -> Sequence[PeerAddress]:
        # Asked anew each time: laptops change networks.
        return [PeerAddress(self.me, multiaddr) for multiaddr in concrete_multiaddrs(self._bound)]

    @property
    def bound_multiaddrs(self) -> Sequence[str]:
        """What we listen on as it was asked for, with the real ports: to be asked for again."""
        return [tcp_multiaddr(host, port) for host, port in self._bound]

    async def _connect(self, address: PeerAddress) -> trio.abc.Stream:
        try:
            with trio.fail_after(DIAL_TIME_MAX):
                host, port = tcp_endpoint(address.multiaddr)
                transport = await trio.open_tcp_stream(host, port)
                return await _or_close(transport, self._secure_outbound(transport, address.peer))
        except (OSError, UnicodeError, BadAddress, BadFrame, trio.BrokenResourceError) as error:
            # UnicodeError: a name in the address that cannot be one.
            raise Unreachable(f"cannot connect to {address}: {error}") from error
        except trio.TooSlowError as error:
            raise Unreachable(f"{address} did not answer within {DIAL_TIME_MAX:.0f} s") from error

    async def _secure_outbound(self, transport: trio.abc.Stream, peer: PeerId) -> NoiseStream:
        private = PrivateStream(transport, self._psk)
        await multistream.propose(private, NOISE_PROTOCOL_ID)
        secured = await self._noise.dial(private, peer)
        await multistream.propose(secured, _YAMUX_PROTOCOL_ID)
        return secured

    async def _secure_inbound(self, transport: trio.abc.Stream) -> NoiseStream:
        private = PrivateStream(transport, self._psk)
        await multistream.answer(private, [NOISE_PROTOCOL_ID])
        secured = await self._noise.accept(private)
        await multistream.answer(secured, [_YAMUX_PROTOCOL_ID])
        return secured

    async def _accept(self, transport: trio.SocketStream) -> None:
        """Serve one inbound connection to its end; the caller closes `transport`."""
        try:
            host = transport.socket.getpeername()[0]
        except OSError:
            return  # It was gone before we looked.
        secured = await self._handshake(transport, host)
        if secured is None:
            return
        if secured.peer == self.me:
            # No copied home comes here: nobody dials its own id, and who dials compares ids first. It takes
            # a program that holds our key and leaves that out. The ledger finds copies.
            logger.warning("somebody at %s dialled us under our own peer id, and was refused", host)
        elif self.takes_connections:
            session = self._adopt(secured, secured.peer, is_dialled=False)
            await session.ended.wait()

    async def _handshake(self, transport: trio.abc.Stream, host: str) -> NoiseStream | None:
        """The secured `transport`, or None. Strangers end here, and so do port scans: nothing that a
        person needs to read."""
        if len(self._handshakes) >= _HANDSHAKES_MAX:
            self._handshakes.popleft().cancel()
        handshake = trio.CancelScope(deadline=trio.current_time() + DIAL_TIME_MAX)
        self._handshakes.append(handshake)
        try:
            with handshake:
                return await self._secure_inbound(transport)
            logger.debug("connection from %s took too long to say what it is", host)
        except (P2PError, trio.BrokenResourceError) as error:
            logger.debug("connection from %s is not one of ours: %s", host, error)
        finally:
            if handshake in self._handshakes:
                self._handshakes.remove(handshake)
        return None


async def _or_close(transport: trio.abc.Stream, secure: Awaitable[NoiseStream]) -> NoiseStream:
    """What `secure` makes of `transport`; if it fails, or is cancelled, `transport` is closed."""
    try:
        return await secure
    except BaseException:
        await trio.aclose_forcefully(transport)
        raise


async def _listen(multiaddrs: Sequence[str]) -> list[trio.SocketListener]:
    endpoints = [tcp_endpoint(multiaddr) for multiaddr in multiaddrs]
    listeners: list[trio.SocketListener] = []
    failures = []
    for multiaddr, (host, port) in zip(multiaddrs, endpoints, strict=True):
        try:
            listeners += await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            failures.append(f"{multiaddr}: {error.strerror or error}")
    if failures and not listeners:
        raise ListenFailed(f"cannot listen on {'; '.join(failures)}")
    for failure in failures:
        logger.warning("cannot listen on %s", failure)
    return listeners
