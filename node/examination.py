"""Looking at this machine: reads the facts that `doctor.py` judges.

Changes nothing, and waits for nothing long.
"""

from __future__ import annotations

import shutil
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psutil
import trio

from node import doctor
from node.attached.errors import AttachedError
from node.attached.server_url import ServerUrl
from node.attached.survey import look_once
from node.control import ask
from node.doctor import Finding
from node.engine.build import describe_build
from node.errors import CommandRefused, HomeDamaged, NoAnswer, NotRunning
from node.flag_types import HostPort
from node.hardware import gpu_names, memory_for_models, nvidia_names, usable_memory
from node.home import Home, NodeState
from node.listening import listen_attempts
from node.place import is_loopback, load_place
from p2p.errors import BadAddress, BadIdentity
from p2p.identity import Identity
from p2p.interfaces import concrete_multiaddrs
from p2p.membership import SwarmMembership
from p2p.peer import PeerAddress
from p2p.tcp_address import tcp_endpoint

_CONNECT_TIMEOUT = 2.0
"""Seconds: anything slower than that over a home's connections is not there."""
_BACKEND_TIMEOUT = 5.0
"""Seconds: its lists take milliseconds."""
_ADDRESSES_TRIED_MAX = 32
"""At once. One that answers is enough, and so many say that none will."""


def examine(
    home: Home,
    api: HostPort,
    listen: Sequence[str],
    backends: Sequence[ServerUrl] = (),
    backend_key: str = "",
) -> Iterator[Finding]:
    """What there is to say of this machine and of `home`, as it is found.

    Args:
      api, listen: where a node of this home would listen; none: where it did last.
      backends: servers that would be attached to it.
    """
    build = describe_build()
    yield doctor.judge_build(build)
    gpus = gpu_names()
    yield doctor.judge_gpu(gpus, build, driver_answers=bool(gpus) or nvidia_names() is not None)
    memory = psutil.virtual_memory()
    yield doctor.judge_memory(memory.total, memory.available)
    yield doctor.judge_disk(str(home.path), shutil.disk_usage(_existing(home.path)).free)
    yield doctor.judge_clock(time.time(), max(map(_written_at, (home.swarm_file, home.node_key))))
    yield from _examine_files(home)
    known: tuple[PeerAddress, ...] = ()
    place = _usable_place(home)
    if place is not None:
        yield doctor.judge_place(place.swarm, place.credential.links[-1].expires_at, time.time())
        known = place.bootstrap
    try:
        state = home.load_state()
    except HomeDamaged as error:
        yield Finding("problem", "state", str(error))
        state = NodeState()
    try:
        yield from _examine_running_node(home)
    except NotRunning:
        yield from _examine_ports(api, listen, state.listen)
    except (NoAnswer, CommandRefused) as error:
        yield Finding("problem", "node", str(error), "look at its log, and start it anew")
    yield from (_examine_backend(url, backend_key) for url in backends)
    yield _examine_known_addresses((*state.peers, *known))
    yield from doctor.defaults_chosen(build, memory_for_models(usable_memory()))


def why_not_listen(host: str, port: int) -> str:
    """Why nobody could listen on `host` and `port` now; empty if somebody could."""
    try:
        [(family, *_), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        # `create_server` puts the address behind the reason; ours stands before it.
        return (error.strerror or str(error)).partition(" (while")[0]
    return ""


def _examine_files(home: Home) -> Iterator[Finding]:
    keys: list[tuple[Path, Callable[[], object]]] = [
        (home.node_key, lambda: Identity.load(home.node_key)),
        (home.founder_key, lambda: Identity.load(home.founder_key)),
        (home.swarm_file, lambda: load_place(home)),
    ]
    for path, load in keys:
        if not path.exists():
            continue
        problem = ""
        try:
            load()
        except (BadIdentity, HomeDamaged) as error:
            problem = str(error)
        # Windows has no such bits; there the folder's access list guards the file.
        mode = 0 if sys.platform == "win32" else stat.S_IMODE(path.stat().st_mode)
        yield doctor.judge_private_file(path.name, str(path), mode=mode, problem=problem)


def _usable_place(home: Home) -> SwarmMembership | None:
    try:
        return load_place(home)
    except HomeDamaged:
        return None  # A finding about its file says so.


def _examine_running_node(home: Home) -> Iterator[Finding]:
    """Where the node in `home` can be reached, and whom it reaches.

    Raises:
      NotRunning: none runs there.
      NoAnswer, CommandRefused: it is stuck, or something in it is broken.
    """
    info, swarm = ask(home, "info"), ask(home, "status")
    yield doctor.judge_api_port(str(info["api"]), is_ours=True, failure="")
    multiaddrs = [str(address).partition("/p2p/")[0] for address in info["addresses"]]
    yield doctor.judge_listen_port(", ".join(multiaddrs), is_ours=True, is_asked=False, failure="")
    yield doctor.judge_reachability(_outside(multiaddrs))
    yield doctor.judge_connections(swarm["nodes"], swarm["self"])
    yield from doctor.judge_models(swarm["nodes"], swarm["self"])


def _examine_ports(api: HostPort, listen: Sequence[str], kept: Sequence[str]) -> Iterator[Finding]:
    """Whether a node could listen where it would try first."""
    failure = why_not_listen(api.host, api.port)
    yield doctor.judge_api_port(f"{api.host}:{api.port}", is_ours=False, failure=failure)
    first_choice = next(listen_attempts(listen, kept))
    for multiaddr in first_choice:
        failure = why_not_listen(*tcp_endpoint(multiaddr))
        yield doctor.judge_listen_port(multiaddr, is_ours=False, is_asked=bool(listen), failure=failure)
    yield doctor.judge_reachability(_outside(concrete_multiaddrs(map(tcp_endpoint, first_choice))))


def _examine_backend(url: ServerUrl, key: str) -> Finding:
    try:
        found = trio.run(partial(look_once, url, key, timeout=_BACKEND_TIMEOUT))
    except AttachedError as error:
        return doctor.judge_backend(str(url), "", 0, str(error))
    return doctor.judge_backend(str(url), found.dialect.name, len(found.models), "")


def _examine_known_addresses(addresses: Iterable[PeerAddress]) -> Finding:
    """Try the addresses at which other nodes were seen, or that the token brought."""
    tried = list(dict.fromkeys(address.multiaddr for address in addresses))[:_ADDRESSES_TRIED_MAX]
    with ThreadPoolExecutor(_ADDRESSES_TRIED_MAX) as pool:
        answers = list(pool.map(_answers, tried))
    return doctor.judge_known_addresses(
        [multiaddr for multiaddr, answered in zip(tried, answers, strict=True) if answered],
        [multiaddr for multiaddr, answered in zip(tried, answers, strict=True) if not answered],
    )


def _outside(multiaddrs: Iterable[str]) -> list[str]:
    return [multiaddr for multiaddr in multiaddrs if not is_loopback(multiaddr)]


def _answers(multiaddr: str) -> bool:
    """Whether somebody takes TCP connections at `multiaddr`."""
    try:
        socket.create_connection(tcp_endpoint(multiaddr), _CONNECT_TIMEOUT).close()
    except (OSError, BadAddress):
        return False
    return True


def _existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
