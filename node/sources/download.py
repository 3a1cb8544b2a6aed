"""One file from its sources into a target, chunk by chunk.

    await download(client, file, open_target)

What is missing is asked for as ranges of bytes, from one source after the other: one that says no is left
out, one that breaks off is asked again after a while, and as long as something comes there is no end to that.
A source without ranges gives the file from its beginning, and what is there already is skipped.

    sha256 known       any source may give any part; the target compares the hash when all is there
    not known          only bytes of one version (ETag, or time of change) belong together: where the version
                       changed, or none is told, the file starts anew

Cancelled or failed: the target has what came, and the next call goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import httpx
import trio

from node.http_client import pieces_of
from node.sources.answers import Body, read_body
from node.sources.download_core import Assembly, DownloadLimits, SpeedWatch, Stretch, wait_before
from node.sources.download_target import OpenTarget
from node.sources.errors import RangeRefused, SourceBusy, SourceRefused, SourceUnavailable
from node.sources.source_client import SourceClient
from node.sources.source_files import Location, SourceFile
from p2p.blobs.manifest import CHUNK_SIZE, CHUNKS_MAX
from p2p.blobs.sink import ChunkSink


@dataclass(frozen=True, slots=True)
class DownloadProgress:
    """How far a download is."""

    bytes_there: int
    """Of the file, whoever brought them."""
    size_bytes: int
    source: str
    """Who sends, without secrets."""


async def download(
    client: SourceClient,
    file: SourceFile,
    open_target: OpenTarget,
    *,
    on_progress: Callable[[DownloadProgress], None] | None = None,
    limits: DownloadLimits | None = None,
    rng: Random | None = None,
) -> None:
    """Bring all of `file` into the target. Whether it is the right one is for that to say.

    `on_progress` is called for each piece that comes, a thousand times a second where it comes fast.

    Raises:
      SourceRefused: no source gives it; the text is what the last one said.
      SourceUnavailable: nothing came for too long. What came before is kept.
      BlobError: the target could not keep it.
    """
    running = _Download(client, file, open_target, on_progress=on_progress, limits=limits, rng=rng)
    await running.run()


class _Download:
    """One download. One task runs it."""

    def __init__(
        self,
        client: SourceClient,
        file: SourceFile,
        open_target: OpenTarget,
        *,
        on_progress: Callable[[DownloadProgress], None] | None,
        limits: DownloadLimits | None,
        rng: Random | None,
    ) -> None:
        self._client = client
        self._file = file
        self._open_target = open_target
        self._on_progress = on_progress
        self._limits = limits or DownloadLimits()
        self._rng = rng or Random()  # noqa: S311 (it spreads waits)
        self._locations = list(file.locations)
        self._turn = 0
        """Which of them is asked next."""
        self._target: ChunkSink | None = None
        self._assembly = Assembly(0)
        self._version = ""
        self._renewals = 0
        self._failures = 0
        """Attempts in a row that brought next to nothing."""
        self._bytes_best = 0

    async def run(self) -> None:
        if self._file.sha256 and self._file.size_bytes:
            # What an earlier run left may be all of it, and then nobody needs to be asked.
            await self._begin(self._file.size_bytes, f"sha256:{self._file.sha256}")
        while self._target is None or not self._target.have.is_full:
            if not self._locations:
                raise SourceRefused(f"{self._file.canonical} has no address to download it from")
            location = self._locations[self._turn % len(self._locations)]
            try:
                await self._ask(location)
            except RangeRefused as error:
                await self._shrunk(location, error)
            except SourceRefused as error:
                self._leave_out(location, error)
            except SourceUnavailable as error:
                await self._wait(error)

    async def _ask(self, location: Location) -> None:
        """Ask for what is missing first, and take what comes."""
        wanted = self._wanted()
        headers = {"range": f"bytes={wanted.start}-{wanted.end - 1 if wanted.end else ''}"}
        if self._version and not self._file.sha256:
            headers["if-range"] = self._version
        async with self._client.open(location, headers) as response:
            body = read_body(location.url, response.status_code, response.headers, asked_from=wanted.start)
            await self._settle(location, body, is_resumed=wanted.start > 0)
            wanted = self._wanted()
            if not body.is_range:
                wanted = Stretch(0, self._assembly.size_bytes)
            elif body.start != wanted.start:
                # The target has other chunks than we thought when we asked.
                return
            self._assembly.go_to(wanted.start)
            await self._receive(location, response, wanted, is_range=body.is_range)

    def _wanted(self) -> Stretch:
        """What to ask for; an end of 0: to the end of the file, wherever that is."""
        wanted = self._assembly.wanted(self._target.have) if self._target else None
        return wanted or Stretch(0, 0)

    async def _settle(self, location: Location, body: Body, *, is_resumed: bool) -> None:
        """See to it that the target is for the file that the answer is of."""
        expected = self._file.size_bytes
        if self._file.sha256 and self._target is not None:
            expected = self._assembly.size_bytes
        size_bytes = expected if body.size_bytes is None else body.size_bytes
        if not size_bytes:
            problem = "is empty" if size_bytes == 0 else "does not say how large it is"
            raise SourceRefused(f"{location.url} {problem}")
        if size_bytes > CHUNKS_MAX * CHUNK_SIZE:
            raise SourceRefused(f"{location.url} says it has {size_bytes} bytes, more than any model")
        if expected is not None and size_bytes != expected:
            raise SourceRefused(
                f"{location.url} has {size_bytes} bytes where {expected} were expected: another file"
            )
        if self._file.sha256:
            if self._target is None:
                await self._begin(size_bytes, f"sha256:{self._file.sha256}")
            return
        is_same = (size_bytes, body.version) == (self._assembly.size_bytes, self._version)
        if self._target is None or not is_same or (is_resumed and not body.version):
            if self._target is not None:
                self._renew(location)
            await self._begin(size_bytes, body.version)

    async def _begin(self, size_bytes: int, version: str) -> None:
        # A file that nobody calls by a version is the same as no other.
        called = version or f"unknown:{self._rng.getrandbits(64):x}"
        self._target = await self._open_target(size_bytes, called)
        self._assembly = Assembly(size_bytes)
        self._version = version
        self._bytes_best = self._assembly.bytes_there(self._target.have)

    def _renew(self, location: Location) -> None:
        """Count that what came is of no use any more."""
        self._renewals += 1
        if self._renewals > self._limits.renewals_max:
            raise SourceRefused(
                f"{location.url} is another file each time, or does not say whether it is the same;"
                f" it was started anew {self._limits.renewals_max} times"
            )

    async def _receive(
        self, location: Location, response: httpx.Response, wanted: Stretch, *, is_range: bool
    ) -> None:
        """Take the body of `response`, which begins where `wanted` does."""
        target, assembly = self._target, self._assembly
        assert target is not None
        watch = SpeedWatch(self._limits)
        async with pieces_of(response) as pieces:
            while assembly.position < wanted.end and not target.have.is_full:
                asked_at = trio.current_time()
                piece = await anext(pieces, b"")
                if not piece:
                    raise SourceUnavailable(
                        f"{location.url.host} stopped after {assembly.position} of"
                        f" {assembly.size_bytes} bytes"
                    )
                if is_range:
                    # A source may give more than was asked for.
                    piece = piece[: wanted.end - assembly.position]
                elif assembly.position + len(piece) > wanted.end:
                    raise SourceRefused(
                        f"{location.url.host} sends more of {location.url} than it said there is"
                    )
                if watch.is_too_slow(len(piece), trio.current_time() - asked_at):
                    raise SourceUnavailable(
                        f"{location.url.host} sends less than {self._limits.speed_min:g} bytes per second"
                    )
                for chunk, data in assembly.take(piece):
                    if chunk not in target.have:
                        await target.write(chunk, [data])
                self._report(location)
                if is_range and assembly.position // CHUNK_SIZE in target.have:
                    # Somebody else brought what comes next.
                    return

    def _report(self, location: Location) -> None:
        if self._on_progress is not None and self._target is not None:
            there = self._assembly.bytes_there(self._target.have)
            self._on_progress(DownloadProgress(there, self._assembly.size_bytes, str(location.url)))

    async def _shrunk(self, location: Location, error: RangeRefused) -> None:
        """The file ends before what was asked for: it is another one now."""
        if self._file.sha256 or self._target is None:
            self._leave_out(location, error)
            return
        self._renew(location)
        self._target, self._version, self._assembly = None, "", Assembly(0)

    def _leave_out(self, location: Location, error: SourceRefused) -> None:
        self._locations.remove(location)
        if not self._locations:
            raise error

    async def _wait(self, error: SourceUnavailable) -> None:
        """After a source broke off: turn to the next one, or wait if all were asked. Raises if that was often
        enough."""
        there = self._assembly.bytes_there(self._target.have) if self._target else 0
        if there >= self._bytes_best + self._limits.progress_min:
            self._bytes_best, self._failures = there, 0
        self._failures += 1
        self._turn += 1
        asked = (error.retry_after or 0.0) if isinstance(error, SourceBusy) else 0.0
        if self._failures >= self._limits.attempts_max * len(self._locations):
            if isinstance(error, SourceBusy):
                raise error
            text = f"{error}; gave up after {self._failures} attempts, what came is kept"
            raise SourceUnavailable(text) from error
        if self._turn % len(self._locations):
            return
        if asked > self._limits.retry_after_max:
            raise error
        rounds = -(-self._failures // len(self._locations))
        await trio.sleep(max(asked, wait_before(rounds, self._limits, chance=self._rng.random())))
