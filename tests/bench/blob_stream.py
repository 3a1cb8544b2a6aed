"""What a seeder sends next to what a bare stream between the same two nodes carries, on loopback.

    python tests/bench/blob_stream.py

The other node is a process of its own, which this one starts. Both ways carry the same bytes, turn about; the
fetch is the simplest there is: some requests under way, pieces put together, nothing checked or written.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median

import psutil
import trio

from p2p.blobs.blob_messages import (
    FRAME_SIZE_MAX,
    PROTOCOL_ID,
    Data,
    Request,
    decode_from_seeder_untrusted,
    encode,
)
from p2p.blobs.have_map import HaveMap
from p2p.blobs.manifest import CHUNK_SIZE, FileKey, ManifestId, chunk_count, chunk_size, file_key
from p2p.blobs.seeder import Seeder
from p2p.blobs.source import Offer
from p2p.blobs.upload import UploadLimits
from p2p.frame_stream import FrameStream
from p2p.identity import Identity
from p2p.libp2p_network import Libp2pNetwork
from p2p.network import PeerStream
from p2p.peer import PeerAddress, PeerId
from p2p.revision import Revision
from tests.bench.figures import Figure, table

SIZE = 253 * 1000 * 1000
"""Bytes, as of the model that is timed elsewhere."""
ROUNDS = 5
UNDER_WAY = 4
"""Requests: the seeder never waits for the next one."""
FILE = file_key("ab" * 32)
_BARE = "/bench/bare/1"
_SECRET = bytes(32)
_WRITE = 64 * 1024


class _FileSource:
    """One file on disk, all of it."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY)
        size = os.fstat(self._fd).st_size
        have = HaveMap.full(chunk_count(size))
        self._offer = Offer(size, have, bytes(32 * have.chunk_count), "ab" * 32, False, Revision())

    async def manifest(self, manifest: ManifestId) -> bytes | None:
        return None

    def offer(self, file: FileKey) -> Offer | None:
        return self._offer

    async def read(self, file: FileKey, chunk: int) -> bytes:
        return await trio.to_thread.run_sync(os.pread, self._fd, CHUNK_SIZE, chunk * CHUNK_SIZE)


async def _seed(path: Path) -> None:
    async def send_bare(stream: PeerStream) -> None:
        data = path.read_bytes()
        for start in range(0, len(data), _WRITE):
            await stream.send_all(memoryview(data)[start : start + _WRITE])

    async with (
        Libp2pNetwork.open(_identity("seeder"), _SECRET, listen=["/ip4/127.0.0.1/tcp/0"]) as network,
        trio.open_nursery() as nursery,
    ):
        network.on_stream(_BARE, send_bare)
        seeder = Seeder(network, _FileSource(path), UploadLimits(), lambda: False)
        nursery.start_soon(seeder.run)
        print(network.listen_addresses[0], flush=True)
        await trio.sleep_forever()


async def _take_bare(network: Libp2pNetwork, peer: PeerId) -> None:
    stream = await network.open_stream(peer, _BARE)
    size = 0
    while piece := await stream.receive_some(_WRITE):
        size += len(piece)
    assert size == SIZE
    await stream.aclose()


async def _take_chunks(network: Libp2pNetwork, peer: PeerId) -> None:
    stream = await network.open_stream(peer, PROTOCOL_ID)
    async with FrameStream(stream, FRAME_SIZE_MAX) as frames:
        count = chunk_count(SIZE)
        for chunk in range(UNDER_WAY):
            await frames.send(encode(Request(chunk, FILE, chunk)))
        for chunk in range(count):
            buffer = bytearray(chunk_size(SIZE, chunk))
            filled = 0
            while filled < len(buffer):
                message = decode_from_seeder_untrusted(await frames.receive() or {})
                assert isinstance(message, Data), message
                assert (message.id, message.offset) == (chunk, filled)
                buffer[filled : filled + len(message.data)] = message.data
                filled += len(message.data)
            if (following := chunk + UNDER_WAY) < count:
                await frames.send(encode(Request(following, FILE, following)))


@dataclass(frozen=True, slots=True)
class _Measured:
    speed: float
    """MB/s."""
    sender: float
    receiver: float
    """Seconds of processor time for a GB."""


def measure(folder: Path) -> Iterator[Figure]:
    """Both ways, turn about. The first round warms up."""
    path = folder / "model"
    path.write_bytes(os.urandom(SIZE))
    command = [sys.executable, __file__, "seed", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            address = PeerAddress.parse(child.stdout.readline().strip())
            rounds = trio.run(_measure, address, psutil.Process(child.pid))
        finally:
            child.kill()
    for way, measured in rounds.items():
        yield Figure(f"{way}, 253 MB, median of {ROUNDS}", median(each.speed for each in measured), "MB/s")
        yield Figure(f"{way}: processor, sender", median(each.sender for each in measured), "s/GB")
        yield Figure(f"{way}: processor, receiver", median(each.receiver for each in measured), "s/GB")
    bare, seeder = rounds.values()
    ratio = median(one.speed / other.speed for one, other in zip(seeder, bare, strict=True))
    yield Figure("seeder / bare stream", ratio, "x", 0.75, is_least=True)


async def _measure(address: PeerAddress, sender: psutil.Process) -> dict[str, list[_Measured]]:
    ways: dict[str, Callable[[Libp2pNetwork, PeerId], Awaitable[None]]] = {
        "bare stream": _take_bare,
        "seeder": _take_chunks,
    }
    rounds: dict[str, list[_Measured]] = {way: [] for way in ways}
    async with Libp2pNetwork.open(_identity("fetcher"), _SECRET) as network:
        await network.dial(address)
        for number in range(ROUNDS + 1):
            for way in ways if number % 2 else reversed(ways):
                spent = _spent(sender), _spent(psutil.Process())
                began_at = time.perf_counter()
                await ways[way](network, address.peer)
                seconds = time.perf_counter() - began_at
                gigabytes = SIZE / 1e9
                rounds[way].append(
                    _Measured(
                        SIZE / 1e6 / seconds,
                        (_spent(sender) - spent[0]) / gigabytes,
                        (_spent(psutil.Process()) - spent[1]) / gigabytes,
                    )
                )
    return {way: measured[1:] for way, measured in rounds.items()}


def _spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _identity(name: str) -> Identity:
    return Identity(sha256(name.encode()).digest())


if __name__ == "__main__":
    if sys.argv[1:2] == ["seed"]:
        trio.run(_seed, Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            print(table(measure(Path(folder))))
