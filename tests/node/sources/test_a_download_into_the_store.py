"""Downloads into the store's own files: what is served in the end is what was promised, or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from node.sources.download import download
from node.sources.errors import SourceUnavailable
from node.sources.source_client import SourceClient
from node.sources.source_files import Location, SourceFile
from node.store.errors import WrongContent
from node.store.partial import PartialFile, open_partial
from node.store.partial_disk import WantedFile
from p2p.blobs.manifest import CHUNK_SIZE
from tests.node.sources.web import QUICK, Web, broken, content_of, file_of, in_turn, serving

MODEL = content_of(2 * CHUNK_SIZE + 12_345)
OTHER = content_of(len(MODEL), seed=2)
SHA256 = hashlib.sha256(MODEL).hexdigest()
PATH = "/m.gguf"


@dataclass
class Install:
    """One model's file on its way to `path`, as who installs it has it."""

    path: Path
    file: SourceFile
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    partial: PartialFile | None = None

    async def open_target(self, size_bytes: int, version: str) -> PartialFile:
        await self.stack.aclose()
        wanted = WantedFile(self.file.key, size_bytes, self.file.sha256, version=version)
        self.partial = await self.stack.enter_async_context(open_partial(self.path, wanted))
        return self.partial

    async def run(self) -> None:
        """Leaves the file at its place."""
        async with self.stack, SourceClient(silence_max=5.0) as client:
            await download(client, self.file, self.open_target, limits=QUICK)
            assert self.partial is not None
            await self.partial.finish()


def on_disk(test: Callable[[Web], Awaitable[None]]) -> None:
    async def main() -> None:
        with trio.fail_after(30):
            async with serving() as web:
                await test(web)

    trio.run(main)


def file_at(web: Web, sha256: str = "") -> SourceFile:
    return SourceFile("model.gguf", str(web.url(PATH)), (Location(web.url(PATH)),), sha256=sha256)


@pytest.mark.parametrize("sha256", ["", SHA256])
def test_what_was_promised_is_there_in_the_end(sha256: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"

    async def test(web: Web) -> None:
        web.pages[PATH] = broken(file_of(MODEL), after=3_000_000)
        await Install(path, file_at(web, sha256)).run()
        assert path.read_bytes() == MODEL
        assert [each.name for each in tmp_path.iterdir()] == ["tiny.gguf"]
        assert web.sent_bytes == len(MODEL)

    on_disk(test)


@pytest.mark.parametrize("sha256", ["", SHA256])
def test_the_next_run_goes_on_where_one_ended(sha256: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"

    async def test(web: Web) -> None:
        web.pages[PATH] = in_turn(
            broken(file_of(MODEL), after=CHUNK_SIZE + 1000), broken(file_of(MODEL), after=0)
        )
        with pytest.raises(SourceUnavailable):
            await Install(path, file_at(web, sha256)).run()
        assert not path.exists()
        sent_before = web.sent_bytes
        web.pages[PATH] = file_of(MODEL)
        await Install(path, file_at(web, sha256)).run()
        assert path.read_bytes() == MODEL
        # Without a hash the file's version has to be heard first, and then what is missing is asked for.
        assert f"bytes={CHUNK_SIZE}-" in web.ranges()[-1]
        assert web.sent_bytes - sent_before <= 2 * len(MODEL) - CHUNK_SIZE

    on_disk(test)


def test_a_file_that_changed_between_two_runs_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"

    async def test(web: Web) -> None:
        web.pages[PATH] = in_turn(
            broken(file_of(MODEL), after=CHUNK_SIZE + 1000), broken(file_of(MODEL), after=0)
        )
        with pytest.raises(SourceUnavailable):
            await Install(path, file_at(web)).run()
        web.pages[PATH] = file_of(OTHER, etag='"v2"')
        await Install(path, file_at(web)).run()
        assert path.read_bytes() == OTHER

    on_disk(test)


def test_a_file_with_another_hash_is_never_there(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"

    async def test(web: Web) -> None:
        web.pages[PATH] = file_of(OTHER)
        with pytest.raises(WrongContent):
            await Install(path, file_at(web, SHA256)).run()
        assert not path.exists()
        # Nothing of it is in the way of the right one.
        web.pages[PATH] = file_of(MODEL)
        await Install(path, file_at(web, SHA256)).run()
        assert path.read_bytes() == MODEL

    on_disk(test)
