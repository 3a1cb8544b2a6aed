"""The three ways in which a file comes: from peers, from where it can be downloaded, from this disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import trio

from node.install.arrival import Arrival
from node.install.swarm_watch import PeersAsTheyChange
from node.install.tally import Tally
from node.install.weighing import Weighing
from node.models.errors import ModelFileChanged, ModelFileUnreadable
from node.sources.download import DownloadProgress, download
from node.sources.source_client import SourceClient
from node.sources.source_files import SourceFile
from node.store.partial import PartialFile
from node.store.partial_disk import WantedFile
from p2p.blobs.fetched_file import FetchedFile
from p2p.blobs.fetcher import Fetcher
from p2p.blobs.file_fetch import FetchProgress
from p2p.blobs.manifest import CHUNK_SIZE
from p2p.blobs.sink import ChunkSink
from p2p.peer import PeerId

THIS_DISK = "disk"
"""Whom bytes come from that were here already."""


async def supply_from_peers(
    fetcher: Fetcher,
    file: FetchedFile,
    sink: ChunkSink,
    seeders: PeersAsTheyChange,
    *,
    what: str,
    tally: Tally,
    names: Callable[[], Mapping[PeerId, str]],
) -> None:
    """Fill `sink` with `file`. Waits for as long as nobody has what is missing.

    Raises:
      SinkFull, SinkFailed: the disk does not take it.
    """

    def note(progress: FetchProgress) -> None:
        known = names()
        sources = {known.get(peer, peer): size for peer, size in progress.received_bytes.items()}
        tally.say(progress.waiting or f"fetching {what}", is_waiting=bool(progress.waiting))
        tally.note(what, progress.size_bytes, progress.stored_bytes, sources)

    note(await fetcher.fetch_file(file, sink, seeders, note))


async def supply_from_source(
    client: SourceClient, file: SourceFile, arrival: Arrival, tally: Tally, weighing: Weighing
) -> PartialFile:
    """Download `file` into `arrival`.

    Raises:
      SourceError: it cannot be had; what came is kept.
      ModelTooLarge: its source says that it is larger than this machine's memory.
      SinkFull, SinkFailed, StoreError: there is no place for it.
    """
    partial: PartialFile | None = None
    before_bytes = 0

    async def open_target(size_bytes: int, version: str) -> PartialFile:
        nonlocal partial, before_bytes
        await weighing.add(tally.model, {file.name: size_bytes})
        # By now it may be another version than the one that was looked up.
        key = replace(file, version=version).key
        wanted = WantedFile(key, size_bytes, file.sha256, version=version)
        partial = await arrival.open(file.name, wanted, also_known_as=[file.of_any_version.key])
        before_bytes = sum(
            wanted.chunk_size(chunk) for chunk in range(wanted.chunk_count) if chunk in partial.have
        )
        return partial

    def note(progress: DownloadProgress) -> None:
        tally.say(f"downloading {file.name}")
        came_bytes = max(progress.bytes_there - before_bytes, 0)
        tally.note(file.name, progress.size_bytes, progress.bytes_there, {progress.source: came_bytes})

    await download(client, file, open_target, on_progress=note)
    assert partial is not None, "a download opens what it fills"
    return partial


async def supply_from_disk(file: SourceFile, path: Path, arrival: Arrival, tally: Tally) -> PartialFile:
    """Copy `file`, which is at `path` on this machine, into `arrival`.

    Raises:
      ModelFileUnreadable: it cannot be read.
      ModelFileChanged: somebody writes to it.
      SinkFull, SinkFailed, StoreError: there is no place for it.
    """
    status = await trio.to_thread.run_sync(_status, path)
    # Of a file that somebody wrote to meanwhile nothing is gone on with.
    version = f"mtime:{status.st_mtime_ns}"
    wanted = WantedFile(file.key, status.st_size, file.sha256, version=version)
    partial = await arrival.open(file.name, wanted)
    for chunk in list(partial.have.missing()):
        data = await trio.to_thread.run_sync(_read, path, chunk * CHUNK_SIZE)
        if len(data) != wanted.chunk_size(chunk):
            raise ModelFileChanged(f"{path} was written to while it was being copied")
        await partial.write(chunk, [data])
        done_bytes = min((chunk + 1) * CHUNK_SIZE, wanted.size_bytes)
        tally.say(f"copying {file.name}")
        tally.note(file.name, wanted.size_bytes, done_bytes, {THIS_DISK: done_bytes})
    return partial


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise ModelFileUnreadable(f"{path} cannot be read: {error.strerror}") from error


def _read(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(CHUNK_SIZE)
    except OSError as error:
        raise ModelFileUnreadable(f"{path} cannot be read: {error.strerror}") from error
