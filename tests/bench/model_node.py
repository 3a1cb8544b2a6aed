"""A whole node that a bench asks for more than a person does: `python model_node.py start --home ...`.

    bench.bare     how long a stream that does nothing else takes for so many bytes from a peer
    bench.pull     get a model, and say how long that took and how much came from whom
    bench.holders  how many peers have all of a model
    bench.given    how many bytes of chunks this node has sent to all peers together
    bench.corrupt  from now on every chunk that this node gives has a wrong byte

Its engine is a stub; that of `python model_node.py real start --home ...` computes. In all else it is
`python -m node`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from node import model_parts
from node.cli import main
from node.control_commands import ControlCommands
from node.control_server import Handler
from node.errors import NodeError
from node.install.order import Order
from node.install.search import of_name, whole_copies
from node.parts import Parts
from node.store.store import Store
from p2p.blobs.manifest import FileKey
from p2p.network import Network, PeerStream
from p2p.peer import PeerId
from tests.bench.stub_node import stub_engine

_BARE = "/bench/bare/1"
_NUMBER_SIZE = 8
"""Bytes that say how many are wanted."""
_WRITE_SIZE = 64 * 1024
"""Bytes of one write, and of one read."""

_handlers_of_node = ControlCommands.handlers
_read_of_store = Store.read


class BenchCommands:
    """What one node does for a bench."""

    def __init__(self, parts: Parts, network: Network) -> None:
        self._parts = parts
        self._network = network

    def handlers(self) -> dict[str, Handler]:
        """By the name a bench asks with."""
        return {
            "bench.bare": self._take_bare,
            "bench.pull": self._pull,
            "bench.holders": self._count_holders,
            "bench.given": self._count_given,
            "bench.corrupt": self._corrupt,
        }

    async def _take_bare(self, arguments: Mapping[str, Any]) -> Any:
        """Seconds."""
        began_at, left = time.perf_counter(), int(arguments["size_bytes"])
        stream = await self._network.open_stream(PeerId(arguments["peer"]), _BARE)
        await stream.send_all(left.to_bytes(_NUMBER_SIZE, "big"))
        while piece := await stream.receive_some(_WRITE_SIZE):
            left -= len(piece)
        await stream.aclose()
        assert left == 0, f"{left} bytes did not come"
        return time.perf_counter() - began_at

    async def _pull(self, arguments: Mapping[str, Any]) -> Any:
        """The job as it ended, with its `seconds`."""
        assert self._parts.models is not None
        manager, began_at = self._parts.models.manager, time.perf_counter()
        job = manager.order(Order(str(arguments["model"])))
        while True:
            revision, now = manager.jobs_revision(), manager.job(job.id)
            assert now is not None
            if now["state"] == "done":
                return {**now, "seconds": time.perf_counter() - began_at}
            if now["state"] in ("failed", "cancelled"):
                raise NodeError(f"it {now['state']}: {now['reason']}")
            await manager.jobs_changed(revision)

    async def _count_holders(self, arguments: Mapping[str, Any]) -> Any:
        copies = whole_copies(self._parts.view.nodes(), self._network.me, of_name(str(arguments["model"])))
        return 0 if copies is None else len(copies.peers)

    async def _count_given(self, _: Mapping[str, Any]) -> Any:
        assert self._parts.models is not None
        return self._parts.models.seeder.uploaded.total()

    async def _corrupt(self, _: Mapping[str, Any]) -> Any:
        Store.read = _read_wrong  # type: ignore[method-assign]


async def _read_wrong(self: Store, file: FileKey, chunk: int) -> bytes:
    """A store compares what it reads with what it hashed, so only who is behind it can lie."""
    data = bytearray(await _read_of_store(self, file, chunk))
    data[len(data) // 2] ^= 1
    return bytes(data)


async def _give_bare(stream: PeerStream) -> None:
    wanted = b""
    while len(wanted) < _NUMBER_SIZE:
        wanted += await stream.receive_some(_NUMBER_SIZE - len(wanted))
    size_bytes, data = int.from_bytes(wanted, "big"), memoryview(bytes(_WRITE_SIZE))
    for start in range(0, size_bytes, _WRITE_SIZE):
        await stream.send_all(data[: size_bytes - start])
    await stream.send_eof()


def _handlers(self: ControlCommands) -> dict[str, Handler]:
    self._network.on_stream(_BARE, _give_bare)
    return {**_handlers_of_node(self), **BenchCommands(self._parts, self._network).handlers()}


if __name__ == "__main__":
    ControlCommands.handlers = _handlers  # type: ignore[method-assign]
    if sys.argv[1] == "real":
        del sys.argv[1]
    else:
        vars(model_parts)["make_engine"] = stub_engine
    sys.exit(main())
