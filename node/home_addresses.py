"""Where the node of a home can be dialled, also while it does not run.

A token is made of these. A node that runs is asked. One that does not will listen
where it did last; one that never ran, on the first port that is free now, which is
kept in its home so that the token comes true.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from node.control import ask
from node.errors import NodeError, NotRunning
from node.home import Home
from node.listening import listen_attempts
from node.place import node_identity, shareable
from p2p.interfaces import concrete_multiaddrs
from p2p.peer import PeerAddress
from p2p.tcp_address import tcp_endpoint, tcp_multiaddr


def home_addresses(home: Home, asked: Sequence[str]) -> list[PeerAddress]:
    """The addresses of the node in `home`, best first. `asked`: where it shall listen once it runs.

    Raises:
      NodeError: there is no port for it.
    """
    try:
        return [PeerAddress.parse(str(text)) for text in ask(home, "info")["addresses"]]
    except NotRunning:
        endpoints = [tcp_endpoint(multiaddr) for multiaddr in _listen_later(home, asked)]
    peer = node_identity(home).peer_id
    return shareable([PeerAddress(peer, multiaddr) for multiaddr in concrete_multiaddrs(endpoints)])


def _listen_later(home: Home, asked: Sequence[str]) -> Sequence[str]:
    """The multiaddrs the node in `home` will listen on, kept for it."""
    with home.lock():
        state = home.load_state()
        for attempt in listen_attempts(asked, state.listen):
            listen = _try_to_listen(attempt)
            if listen is not None:
                if listen != state.listen:
                    home.save_state(replace(state, listen=listen))
                return listen
    raise NodeError(f"cannot listen on {', '.join(asked)}; is another program there?")


def _try_to_listen(multiaddrs: Sequence[str]) -> tuple[str, ...] | None:
    """`multiaddrs` with the real ports, if they are all free now."""
    bound = []
    with ExitStack() as stack:
        for host, port in map(tcp_endpoint, multiaddrs):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            try:
                listener = stack.enter_context(socket.create_server((host, port), family=family))
            except OSError:
                return None
            bound.append(tcp_multiaddr(*listener.getsockname()[:2]))
    return tuple(bound)
