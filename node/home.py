"""A node's home: the folder that holds everything it must remember.

    node.key         who we are                              0600
    founder.key      only where the swarm was founded        0600
    swarm.msgpack    the swarm's secret and our credential   0600
    config.toml      settings (see `config.py`)
    state.json       our port, and where peers were seen last
    ledger.sqlite    the replicated ledger
    models/          model files
    hashes/          of model files, by size and time
    manifests/       of models that are on their way
    models.json      where each model came from
    jobs.json        what takes a while, over restarts   0600
    galleries/       copies of their indexes
    reputation.json  who sent wrong chunks
    run/             the lock and the way to the running node

Only paths, the lock and the small files are handled here; what is inside a key or
the swarm file is `p2p`'s business. One node per home, enforced by `run/lock`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import filelock

from node.errors import HomeDamaged, HomeLocked, NodeError
from p2p.peer import PeerAddress
from p2p.private_file import write_private_file
from p2p.tcp_address import tcp_endpoint

_PEERS_KEPT_MAX = 256
"""Addresses: any one of them is enough to come back in, and a private file stays under its 64 KiB."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """What a node remembers from one run to the next, none of it secret."""

    listen: tuple[str, ...] = ()
    """Multiaddrs it listened on last, so that an address in a pasted token stays true."""
    peers: tuple[PeerAddress, ...] = ()
    """Where peers were reached last."""


@dataclass(frozen=True, slots=True)
class Home:
    """The folder at `path`. Reading never creates anything; `create` and `lock` do."""

    path: Path

    @property
    def models(self) -> Path:
        return self.path / "models"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def node_key(self) -> Path:
        return self.path / "node.key"

    @property
    def founder_key(self) -> Path:
        return self.path / "founder.key"

    @property
    def swarm_file(self) -> Path:
        return self.path / "swarm.msgpack"

    @property
    def config_file(self) -> Path:
        return self.path / "config.toml"

    @property
    def state_file(self) -> Path:
        return self.path / "state.json"

    @property
    def ledger_file(self) -> Path:
        return self.path / "ledger.sqlite"

    @property
    def hashes(self) -> Path:
        return self.path / "hashes"

    @property
    def manifests(self) -> Path:
        return self.path / "manifests"

    @property
    def model_notes_file(self) -> Path:
        return self.path / "models.json"

    @property
    def jobs_file(self) -> Path:
        return self.path / "jobs.json"

    @property
    def galleries(self) -> Path:
        return self.path / "galleries"

    @property
    def reputation_file(self) -> Path:
        return self.path / "reputation.json"

    @property
    def control_file(self) -> Path:
        return self.run / "control"

    def create(self) -> None:
        """Make the folders that are missing, readable by their owner alone.

        Raises:
          NodeError: the place cannot be written.
        """
        try:
            for folder in (self.path, self.models, self.run):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise NodeError(
                f"cannot use {self.path} as a home: {error.strerror}; choose another with --home"
            ) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold this home, created if it is not there, for one node. Released when the process
        ends, however it ends.

        Raises:
          HomeLocked: another node runs in it.
          NodeError: the place cannot be written.
        """
        # Before filelock does it, with folders that everybody may read.
        self.create()
        lock = filelock.FileLock(self.run / "lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise HomeLocked(
                f"another node already runs in {self.path}; stop it, or give this one its own --home"
            ) from None
        except OSError as error:
            raise NodeError(f"cannot lock {self.path}: {error.strerror}") from error
        try:
            yield
        finally:
            lock.release()

    def load_state(self) -> NodeState:
        """What the last run remembered; empty on the first.

        Raises:
          HomeDamaged: the file is there and is not ours.
        """
        try:
            match json.loads(self.state_file.read_text(encoding="utf-8")):
                case {"listen": [*listen], "peers": [*peers]}:
                    return NodeState(
                        tuple(_tcp_multiaddr(str(text)) for text in listen),
                        tuple(PeerAddress.parse(str(text)) for text in peers),
                    )
            raise ValueError("it is not what a node writes")
        except FileNotFoundError:
            return NodeState()
        except (OSError, ValueError, RecursionError) as error:
            raise HomeDamaged(
                f"{self.state_file} cannot be read ({error}); it holds only addresses: delete it"
            ) from error

    def save_state(self, state: NodeState) -> None:
        """Remember `state` for the next run, the first `_PEERS_KEPT_MAX` addresses of peers."""
        peers = state.peers[:_PEERS_KEPT_MAX]
        text = json.dumps(
            {"listen": list(state.listen), "peers": [str(address) for address in peers]}, indent=1
        )
        write_private(self.state_file, text.encode())

    def forget_swarm(self) -> None:
        """Give up this home's place in its swarm, its ledger, and where its peers were.

        Its own addresses stay: tokens that name them are still about.

        Raises:
          HomeDamaged, NodeError: the state cannot be read or written; the place is gone all the same.
        """
        for path in (self.swarm_file, self.ledger_file):
            for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
                file.unlink(missing_ok=True)
        # A swarm that is founded here later must not look for strangers.
        self.save_state(replace(self.load_state(), peers=()))


def write_private(path: Path, data: bytes) -> None:
    """Replace the file at `path` in one step, readable by its owner alone.

    Raises:
      NodeError: it could not be written; the old file is as it was.
    """
    try:
        write_private_file(path, data)
    except OSError as error:
        raise NodeError(f"cannot write {path}: {error.strerror}") from error


def _tcp_multiaddr(text: str) -> str:
    """`text`, if it is one that can be listened on.

    Raises:
      BadAddress: it is not.
    """
    tcp_endpoint(text)
    return text
