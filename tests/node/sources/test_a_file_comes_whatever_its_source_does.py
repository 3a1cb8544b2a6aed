"""Downloads from a server on loopback that misbehaves, one way at a time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest
import trio

from node.sources.download import DownloadProgress, download
from node.sources.download_core import DownloadLimits
from node.sources.errors import (
    NotAtSource,
    SourceBusy,
    SourceError,
    SourceRefused,
    SourceUnavailable,
    TokenNeeded,
)
from node.sources.source_client import SourceClient
from node.sources.source_files import Location, SourceFile
from p2p.blobs.errors import SinkFull
from p2p.blobs.manifest import CHUNK_SIZE
from tests.node.sources.web import (
    QUICK,
    Asked,
    MemorySink,
    Reply,
    Shelf,
    Web,
    always,
    broken,
    content_of,
    file_of,
    in_turn,
    serving,
)

MODEL = content_of(2 * CHUNK_SIZE + 12_345)
SHA256 = hashlib.sha256(MODEL).hexdigest()
OTHER = content_of(len(MODEL), seed=2)
PATH = "/m.gguf"


def with_web(test: Callable[[Web], Awaitable[None]], *, timeout: float = 20) -> None:
    async def main() -> None:
        with trio.fail_after(timeout):
            async with serving() as web:
                await test(web)

    trio.run(main)


def at(*webs: Web, sha256: str = "", size_bytes: int | None = None, path: str = PATH) -> SourceFile:
    locations = tuple(Location(web.url(path)) for web in webs)
    return SourceFile(
        "model.gguf", locations[0].url.canonical, locations, size_bytes=size_bytes, sha256=sha256
    )


async def get(
    file: SourceFile,
    shelf: Shelf,
    *,
    limits: DownloadLimits = QUICK,
    silence_max: float = 5.0,
    on_progress: Callable[[DownloadProgress], None] = lambda progress: None,
) -> list[str]:
    """Who sent something, in that order."""
    senders: list[str] = []

    def note(progress: DownloadProgress) -> None:
        if progress.source not in senders:
            senders.append(progress.source)
        on_progress(progress)

    async with SourceClient(silence_max=silence_max) as client:
        await download(client, file, shelf, limits=limits, on_progress=note)
    return senders


def test_a_file_comes_whole_with_one_question() -> None:
    async def test(web: Web) -> None:
        web.pages[PATH] = file_of(MODEL)
        shelf, seen = Shelf(), list[DownloadProgress]()
        senders = await get(at(web), shelf, on_progress=seen.append)
        assert shelf.sink.content == MODEL
        assert senders == [f"{web.root}{PATH}"]
        assert web.ranges() == ["bytes=0-"]
        there = [each.bytes_there for each in seen]
        assert there == sorted(there)
        assert seen[-1] == DownloadProgress(len(MODEL), len(MODEL), f"{web.root}{PATH}")

    with_web(test)


def test_only_what_is_missing_is_asked_for() -> None:
    async def test(web: Web) -> None:
        web.pages[PATH] = file_of(MODEL)
        shelf = Shelf()
        shelf.hold(MODEL, f"sha256:{SHA256}", 0, 2)
        await get(at(web, sha256=SHA256, size_bytes=len(MODEL)), shelf)
        assert shelf.sink.content == MODEL
        assert web.ranges() == [f"bytes={CHUNK_SIZE}-{2 * CHUNK_SIZE - 1}"]
        assert web.sent_bytes == CHUNK_SIZE

    with_web(test)


def test_a_file_without_a_hash_is_gone_on_with_while_its_version_is_the_same() -> None:
    async def test(web: Web) -> None:
        web.pages[PATH] = file_of(MODEL)
        shelf = Shelf()
        shelf.hold(MODEL, '"v1"', 0)
        await get(at(web), shelf)
        assert shelf.sink.content == MODEL
        assert shelf.sink.written == [1, 2]

    with_web(test)


def test_nobody_is_asked_for_what_is_there_already() -> None:
    async def test(web: Web) -> None:
        shelf = Shelf()
        shelf.hold(MODEL, f"sha256:{SHA256}", 0, 1, 2)
        await get(at(web, sha256=SHA256, size_bytes=len(MODEL)), shelf)
        assert web.asked == []

    with_web(test)


@pytest.mark.parametrize("sha256", ["", SHA256])
def test_no_byte_comes_twice_when_connections_are_cut(sha256: str) -> None:
    async def test(web: Web) -> None:
        # In the middle of a chunk, each time.
        web.pages[PATH] = broken(file_of(MODEL), after=1_500_000)
        shelf = Shelf()
        await get(at(web, sha256=sha256), shelf)
        assert shelf.sink.content == MODEL
        assert web.sent_bytes == len(MODEL)

    with_web(test)


def test_a_source_without_ranges_gives_the_rest_from_the_beginning() -> None:
    async def test(web: Web) -> None:
        whole = file_of(MODEL, has_ranges=False)
        web.pages[PATH] = in_turn(broken(whole, after=CHUNK_SIZE + 1000), whole)
        shelf = Shelf()
        await get(at(web), shelf)
        assert shelf.sink.content == MODEL
        assert shelf.sink.written == [0, 1, 2], "the first chunk was not kept"

    with_web(test)


def test_a_file_that_changes_while_it_comes_starts_anew() -> None:
    async def test(web: Web) -> None:
        web.pages[PATH] = in_turn(
            broken(file_of(MODEL), after=CHUNK_SIZE + 1000), file_of(OTHER, etag='"v2"')
        )
        shelf = Shelf()
        await get(at(web), shelf)
        assert shelf.sink.content == OTHER
        assert shelf.opened == [(len(MODEL), '"v1"'), (len(OTHER), '"v2"')]

    with_web(test)


def test_a_change_is_seen_where_if_range_is_ignored() -> None:
    async def test(web: Web) -> None:
        def heedless(asked: Asked) -> Reply:
            headers = {name: value for name, value in asked.headers.items() if name != "if-range"}
            return file_of(OTHER, etag='"v2"')(replace(asked, headers=headers))

        web.pages[PATH] = in_turn(broken(file_of(MODEL), after=CHUNK_SIZE + 1000), heedless)
        shelf = Shelf()
        await get(at(web), shelf)
        assert shelf.sink.content == OTHER

    with_web(test)


def test_a_file_that_becomes_shorter_starts_anew() -> None:
    async def test(web: Web) -> None:
        short = OTHER[:1000]

        def out_of_range(asked: Asked) -> Reply:
            return Reply(416) if asked.headers["range"] != "bytes=0-" else file_of(short, etag='"v2"')(asked)

        web.pages[PATH] = in_turn(broken(file_of(MODEL), after=CHUNK_SIZE + 1000), out_of_range)
        shelf = Shelf()
        await get(at(web), shelf)
        assert shelf.sink.content == short

    with_web(test)


def test_a_file_that_is_another_one_each_time_is_given_up() -> None:
    async def test(web: Web) -> None:
        versions = (broken(file_of(MODEL, etag=f'"{n}"'), after=200_000) for n in range(20))
        web.pages[PATH] = in_turn(*versions)
        with pytest.raises(SourceRefused, match="another file each time"):
            await get(at(web), Shelf())

    with_web(test)


def test_without_a_version_or_a_hash_parts_of_two_connections_are_not_put_together() -> None:
    async def test(web: Web) -> None:
        web.pages[PATH] = in_turn(
            broken(file_of(MODEL, etag=""), after=CHUNK_SIZE + 9), file_of(OTHER, etag="")
        )
        shelf = Shelf()
        await get(at(web), shelf)
        assert shelf.sink.content == OTHER
        assert len({version for _, version in shelf.opened}) == len(shelf.opened), "called the same"

    with_web(test)


def test_a_weak_etag_says_nothing_and_the_time_of_change_does() -> None:
    async def test(web: Web) -> None:
        day = "Fri, 01 May 2026 10:00:00 GMT"

        def dated(asked: Asked) -> Reply:
            assert asked.headers.get("if-range", day) == day
            reply = file_of(MODEL, etag="")(
                Asked(asked.method, asked.target, {"range": asked.headers["range"]})
            )
            return replace(reply, headers={**reply.headers, "etag": 'W/"1"', "last-modified": day})

        web.pages[PATH] = broken(dated, after=3_000_000)
        shelf = Shelf()
        await get(at(web), shelf)
        assert shelf.sink.content == MODEL
        assert {version for _, version in shelf.opened} == {day}
        assert web.asked[1].headers["if-range"] == day

    with_web(test)


def test_the_next_source_goes_on_where_one_broke_off() -> None:
    async def test(web: Web) -> None:
        async with serving() as mirror:
            web.pages[PATH] = in_turn(broken(file_of(MODEL), after=CHUNK_SIZE + 1000), always(Reply(500)))
            mirror.pages[PATH] = file_of(MODEL, etag='"elsewhere"')
            shelf = Shelf()
            senders = await get(at(web, mirror, sha256=SHA256), shelf)
            assert shelf.sink.content == MODEL
            assert mirror.ranges() == [f"bytes={CHUNK_SIZE + 1000}-{len(MODEL) - 1}"]
            assert senders == [f"{web.root}{PATH}", f"{mirror.root}{PATH}"]

    with_web(test)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(404),
        Reply(403),
        Reply(200, MODEL[:-1]),
        Reply(200, b"<html>", {"content-type": "text/html; charset=utf-8"}),
        Reply(200, MODEL, {"content-encoding": "gzip"}),
        Reply(206, MODEL, {"content-range": f"bytes 5-{len(MODEL) + 4}/{len(MODEL)}"}),
        Reply(206, MODEL, {"content-range": "nonsense"}),
        Reply(206, MODEL),
        Reply(206, MODEL[:1], {"content-range": f"bytes 0-0/{2**60}"}),
        Reply(204),
        Reply(302, b"", {"location": "ftp://x/m.gguf"}),
        Reply(302, b"", {"location": PATH}),
    ],
    ids=lambda reply: f"{reply.status} {reply.headers}"[:60],
)
def test_a_source_that_is_of_no_use_is_left_for_the_next(reply: Reply) -> None:
    async def test(web: Web) -> None:
        async with serving() as mirror:
            web.pages[PATH], mirror.pages[PATH] = always(reply), file_of(MODEL)
            shelf = Shelf()
            senders = await get(at(web, mirror, sha256=SHA256, size_bytes=len(MODEL)), shelf)
            assert shelf.sink.content == MODEL
            assert senders == [f"{mirror.root}{PATH}"]
            with pytest.raises(SourceRefused):
                await get(at(web, sha256=SHA256, size_bytes=len(MODEL)), Shelf())

    with_web(test)


def test_a_length_that_is_a_lie_ends_the_download_after_some_attempts() -> None:
    async def test(web: Web) -> None:
        web.pages[PATH] = always(Reply(200, MODEL[:1000], {"content-length": "5000", "etag": '"v1"'}))
        with pytest.raises(SourceUnavailable, match="gave up after 3 attempts, what came is kept"):
            await get(at(web), Shelf())
        assert len(web.asked) == 3

    with_web(test)


def test_a_source_that_sends_a_few_bytes_each_time_is_given_up() -> None:
    async def test(web: Web) -> None:
        web.pages[PATH] = broken(file_of(MODEL), after=100)
        with pytest.raises(SourceUnavailable, match="gave up"):
            await get(at(web), Shelf())

    with_web(test)


def test_as_long_as_something_comes_there_is_no_end_to_attempts() -> None:
    async def test(web: Web) -> None:
        web.pages[PATH] = broken(file_of(MODEL), after=200_000)
        shelf = Shelf()
        await get(at(web), shelf)
        assert len(web.asked) > 10 * QUICK.attempts_max
        assert shelf.sink.content == MODEL

    with_web(test)


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504, 429])
def test_a_problem_that_passes_is_waited_for(status: int) -> None:
    async def test(web: Web) -> None:
        busy = always(Reply(status, headers={"retry-after": "0"}))
        web.pages[PATH] = in_turn(busy, busy, file_of(MODEL))
        shelf = Shelf()
        await get(at(web), shelf)
        assert shelf.sink.content == MODEL

    with_web(test)


def test_who_asks_for_more_patience_than_one_has_is_told_of() -> None:
    async def test(web: Web) -> None:
        web.pages[PATH] = always(Reply(429, headers={"retry-after": "9999"}))
        with pytest.raises(SourceBusy, match=r"busy .429.; try again in 9999 seconds"):
            await get(at(web), Shelf())
        assert len(web.asked) == 1

    with_web(test)


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (Reply(401), TokenNeeded, "needs a token or a password .401."),
        (Reply(403, headers={"x-error-code": "GatedRepo"}), TokenNeeded, "accept them on its page"),
        (
            Reply(401, headers={"x-error-code": "RepoNotFound"}),
            TokenNeeded,
            "check its name, or set HF_TOKEN",
        ),
        (Reply(407), TokenNeeded, "HTTPS_PROXY"),
        (Reply(404), NotAtSource, "there is no http"),
        (Reply(410), NotAtSource, "there is no http"),
        (Reply(400), SourceRefused, "Bad Request .400."),
        (Reply(451), SourceRefused, "Legal Reasons .451."),
        (Reply(416), SourceRefused, "shorter than it was, or empty"),
        (Reply(500), SourceUnavailable, "a problem of its own .500."),
        (Reply(503), SourceBusy, "try again later"),
        (Reply(200), SourceRefused, "is empty"),
        (Reply(204), SourceRefused, "No Content .204."),
        (
            Reply(200, b"<html>", {"content-type": "text/html"}),
            SourceRefused,
            "a web page, not a model's file",
        ),
        (
            Reply(200, b"0" * 9, {"content-length": "", "etag": '"1"'}),
            SourceRefused,
            "does not say how large",
        ),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Reply) else None,
)
def test_each_answer_is_a_sentence_without_secrets(reply: Reply, kind: type[SourceError], words: str) -> None:
    async def test(web: Web) -> None:
        web.pages[PATH] = always(reply)
        url = web.url(PATH + "?signature=s3cret")
        url = replace(url, text=url.text.replace("://", "://me:hunter2@"))
        file = SourceFile("model.gguf", url.canonical, (Location(url, "hf_t0ken"),))
        if reply.status == 401 and not reply.headers:
            file = replace(file, locations=(Location(url),))
        with pytest.raises(kind, match=words) as caught:
            await get(file, Shelf())
        error: BaseException | None = caught.value
        while error is not None:
            for secret in ("s3cret", "hunter2", "t0ken"):
                assert secret not in f"{error} {error!r}"
            error = error.__cause__

    with_web(test)


def test_a_length_that_only_we_know_is_enough() -> None:
    async def test(web: Web) -> None:
        web.pages[PATH] = always(Reply(200, MODEL, {"content-length": ""}))
        shelf = Shelf()
        await get(at(web, sha256=SHA256, size_bytes=len(MODEL)), shelf)
        assert shelf.sink.content == MODEL
        web.pages[PATH] = always(Reply(200, MODEL + b"x", {"content-length": ""}))
        with pytest.raises(SourceRefused, match="sends more"):
            await get(at(web, size_bytes=len(MODEL)), Shelf())

    with_web(test)


def test_more_than_was_asked_for_does_no_harm() -> None:
    async def test(web: Web) -> None:
        def generous(asked: Asked) -> Reply:
            start = int(asked.headers["range"].removeprefix("bytes=").partition("-")[0])
            return file_of(MODEL)(replace(asked, headers={"range": f"bytes={start}-"}))

        web.pages[PATH] = generous
        shelf = Shelf()
        shelf.hold(MODEL, f"sha256:{SHA256}", 1)
        await get(at(web, sha256=SHA256, size_bytes=len(MODEL)), shelf)
        assert shelf.sink.content == MODEL
        assert shelf.sink.written == [0, 2]

    with_web(test)


@pytest.mark.parametrize("after", [0, 1000])
def test_a_source_that_falls_silent_is_not_waited_for(after: int) -> None:
    async def test(web: Web) -> None:
        web.pages[PATH] = in_turn(
            lambda asked: replace(file_of(MODEL)(asked), silent_after=after), file_of(MODEL)
        )
        shelf = Shelf()
        await get(at(web), shelf, silence_max=0.2)
        assert shelf.sink.content == MODEL
        web.pages[PATH] = always(Reply(200, MODEL, {"etag": '"v1"'}, silent_after=after))
        with pytest.raises(SourceUnavailable, match=r"sent nothing for 0\.2 seconds"):
            await get(at(web), Shelf(), silence_max=0.2)

    with_web(test)


def test_a_source_that_is_too_slow_is_left_for_the_next() -> None:
    async def test(web: Web) -> None:
        web.pages[PATH] = file_of(MODEL)
        hasty = replace(QUICK, speed_min=math.inf, speed_window=0.0)
        with pytest.raises(SourceUnavailable, match="less than inf bytes per second"):
            await get(at(web), Shelf(), limits=hasty)

    with_web(test)


def test_where_nobody_listens_is_said() -> None:
    async def test(web: Web) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        await listeners[0].aclose()
        with pytest.raises(SourceUnavailable, match=f"nobody answers at 127.0.0.1:{port}"):
            await get(at(Web(port)), Shelf())

    with_web(test)


def test_what_somebody_else_brings_meanwhile_does_not_come_again() -> None:
    async def test(web: Web) -> None:
        shelf = Shelf()

        def meanwhile(asked: Asked) -> Reply:
            if shelf.opened:
                shelf.sink.put(1, MODEL[CHUNK_SIZE : 2 * CHUNK_SIZE])
            return file_of(MODEL)(asked)

        web.pages[PATH] = meanwhile
        await get(at(web, sha256=SHA256, size_bytes=len(MODEL)), shelf)
        assert shelf.sink.content == MODEL
        assert shelf.sink.written == [0, 2]

    with_web(test)


def test_a_full_disk_ends_the_download_and_keeps_what_came() -> None:
    class FullDisk(MemorySink):
        async def write(self, chunk: int, pieces: Sequence[bytes]) -> None:
            if chunk == 1:
                raise SinkFull("no room")
            await super().write(chunk, pieces)

    async def test(web: Web) -> None:
        web.pages[PATH] = file_of(MODEL)
        sink = FullDisk(len(MODEL))

        async def open_target(size_bytes: int, version: str) -> MemorySink:
            await trio.lowlevel.checkpoint()
            return sink

        async with SourceClient() as client:
            with pytest.raises(SinkFull):
                await download(client, at(web), open_target, limits=QUICK)
        assert sink.written == [0]
        assert len(web.asked) == 1

    with_web(test)


def test_a_cancelled_download_keeps_what_came() -> None:
    async def test(web: Web) -> None:
        web.pages[PATH] = lambda asked: replace(file_of(MODEL)(asked), silent_after=CHUNK_SIZE + 1000)
        shelf = Shelf()
        with trio.CancelScope() as scope:

            def stop(progress: DownloadProgress) -> None:
                if progress.bytes_there > CHUNK_SIZE:
                    scope.cancel()

            await get(at(web), shelf, on_progress=stop)
        assert shelf.sink.written == [0]
        web.pages[PATH] = file_of(MODEL)
        await get(at(web), shelf)
        assert shelf.sink.written == [0, 1, 2]
        assert shelf.sink.content == MODEL

    with_web(test)
