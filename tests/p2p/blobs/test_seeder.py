"""What a seeder gives, to whom first, and what becomes of those that ask too much or do not read."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import trio

from p2p.blobs.blob_messages import (
    FOLLOWS_MAX,
    MANIFESTS_MAX,
    REQUESTS_MAX,
    Cancel,
    Data,
    FetcherMessage,
    Follow,
    Gained,
    Have,
    ManifestPiece,
    NoFile,
    NoManifest,
    Refused,
    Request,
    Unfollow,
    WantManifest,
)
from p2p.blobs.have_map import HaveMap
from p2p.blobs.manifest import CHUNK_SIZE, ManifestId, file_key
from p2p.blobs.upload import PIECE_SIZE_FAST, UploadLimits
from tests.mock_time import run
from tests.p2p.blobs.seeded import DATA, FILE, HASHES, LAST, SIZE, seeding

MANIFEST = ManifestId("ef" * 32)
ONE_SLOT = UploadLimits(slots=1)


def test_a_chunk_comes_whole_and_is_counted() -> None:
    async def main() -> None:
        async with seeding() as stage:
            fetcher = await stage.fetcher()
            assert await fetcher.fetch(1) == DATA[CHUNK_SIZE : 2 * CHUNK_SIZE]
            assert await fetcher.fetch(LAST) == DATA[2 * CHUNK_SIZE :]
            assert stage.seeder.uploaded == {stage.networks[0].me: CHUNK_SIZE + 100_000}

    run(main)


def test_requests_are_answered_in_their_order() -> None:
    async def main() -> None:
        async with seeding() as stage:
            fetcher = await stage.fetcher()
            await fetcher.say(Request(7, FILE, LAST), Request(3, FILE, 0), Request(5, FILE, LAST))
            assert await fetcher.chunk(7, 100_000) == DATA[2 * CHUNK_SIZE :]
            assert await fetcher.chunk(3, CHUNK_SIZE) == DATA[:CHUNK_SIZE]
            assert await fetcher.chunk(5, 100_000) == DATA[2 * CHUNK_SIZE :]

    run(main)


def test_who_follows_a_file_is_told_what_is_there_and_what_comes() -> None:
    async def main() -> None:
        async with seeding() as stage:
            stage.source.growing(1)
            fetcher = await stage.fetcher()
            await fetcher.say(Follow(FILE))
            assert await fetcher.hear() == Have(FILE, SIZE, b"\x40", "", is_growing=True)
            stage.source.gain(0)
            assert await fetcher.hear() == Gained(FILE, (0,))
            stage.source.gain(2)
            assert await fetcher.hear() == Gained(FILE, (2,))
            stage.source.complete()
            assert await fetcher.hear() == Have(FILE, SIZE, b"\xe0", "ab" * 32, is_growing=False)
            await fetcher.hear_nothing(3600)

    run(main)


def test_hashes_are_told_with_their_chunks_to_who_asked_for_them() -> None:
    async def main() -> None:
        async with seeding() as stage:
            stage.source.growing(0, 1)
            fetcher = await stage.fetcher()
            await fetcher.say(Follow(FILE, with_hashes=True))
            assert await fetcher.hear() == Have(FILE, SIZE, b"\xc0", "", is_growing=True)
            assert await fetcher.hear() == Gained(FILE, (0, 1), HASHES[:64])
            stage.source.gain(2)
            assert await fetcher.hear() == Gained(FILE, (2,), HASHES[64:])

    run(main)


def test_what_came_while_nobody_could_be_told_comes_in_one_message() -> None:
    async def main() -> None:
        async with seeding() as stage:
            stage.source.growing()
            fetcher = await stage.fetcher()
            await fetcher.say(Follow(FILE))
            await fetcher.hear()
            stage.source.gain(0)
            stage.source.gain(2)
            assert await fetcher.hear() == Gained(FILE, (0, 2))

    run(main)


def test_a_chunk_that_is_lost_is_taken_back() -> None:
    async def main() -> None:
        async with seeding() as stage:
            fetcher = await stage.fetcher()
            await fetcher.say(Follow(FILE))
            assert isinstance(await fetcher.hear(), Have)
            assert stage.source.offered is not None
            fewer = HaveMap(3)
            fewer.add(1)
            stage.source.change(replace(stage.source.offered, have=fewer))
            assert await fetcher.hear() == Have(FILE, SIZE, b"\x40", "ab" * 32, is_growing=False)

    run(main)


def test_who_unfollows_hears_no_more_and_may_follow_again() -> None:
    async def main() -> None:
        async with seeding() as stage:
            stage.source.growing()
            fetcher = await stage.fetcher()
            await fetcher.say(Follow(FILE))
            await fetcher.hear()
            await fetcher.say(Unfollow(FILE))
            await fetcher.hear_nothing(1)
            stage.source.gain(0)
            await fetcher.hear_nothing(1)
            await fetcher.say(Follow(FILE))
            assert await fetcher.hear() == Have(FILE, SIZE, b"\x80", "", is_growing=True)
            await fetcher.say(Unfollow(FILE), Follow(FILE))
            assert await fetcher.hear() == Have(FILE, SIZE, b"\x80", "", is_growing=True)
            await fetcher.hear_nothing(1)
            await fetcher.say(Follow(FILE, with_hashes=True))
            assert await fetcher.hear() == Have(FILE, SIZE, b"\x80", "", is_growing=True)
            assert await fetcher.hear() == Gained(FILE, (0,), HASHES[:32])

    run(main)


def test_a_file_that_is_not_here_or_goes_is_said_to_be() -> None:
    async def main() -> None:
        async with seeding() as stage:
            other = file_key("cd" * 32)
            fetcher = await stage.fetcher()
            await fetcher.say(Follow(other))
            assert await fetcher.hear() == NoFile(other)
            await fetcher.say(Follow(FILE))
            assert isinstance(await fetcher.hear(), Have)
            stage.source.change(None)
            assert await fetcher.hear() == NoFile(FILE)

    run(main)


def test_a_file_that_changed_on_disk_is_refused_and_taken_back() -> None:
    async def main() -> None:
        async with seeding() as stage:
            stage.source.data = None
            fetcher = await stage.fetcher()
            await fetcher.say(Follow(FILE))
            await fetcher.hear()
            await fetcher.say(Request(1, FILE, 0), Request(2, FILE, 0))
            heard = [await fetcher.hear() for _ in range(3)]
            assert set(heard) == {Refused(1, "gone"), NoFile(FILE), Refused(2, "gone")}
            assert stage.seeder.uploaded == {}

    run(main)


def test_a_file_that_became_shorter_is_refused() -> None:
    async def main() -> None:
        async with seeding() as stage:
            stage.source.data = DATA[:-1]
            fetcher = await stage.fetcher()
            await fetcher.say(Request(1, FILE, LAST))
            assert await fetcher.hear() == Refused(1, "gone")

    run(main)


def test_a_chunk_that_is_not_here_is_refused() -> None:
    async def main() -> None:
        async with seeding() as stage:
            stage.source.growing(0)
            fetcher = await stage.fetcher()
            await fetcher.say(Request(1, FILE, LAST), Request(2, file_key("cd" * 32), 0))
            assert await fetcher.hear() == Refused(1, "no_chunk")
            assert await fetcher.hear() == Refused(2, "gone")

    run(main)


def test_a_manifest_comes_in_pieces() -> None:
    async def main() -> None:
        async with seeding() as stage:
            manifest = stage.source.manifests[MANIFEST] = DATA[:200_000]
            fetcher = await stage.fetcher()
            await fetcher.say(WantManifest(MANIFEST), WantManifest(ManifestId("cd" * 32)))
            received = b""
            while len(received) < len(manifest):
                piece = await fetcher.hear()
                assert isinstance(piece, ManifestPiece)
                assert (piece.manifest, piece.size_bytes) == (MANIFEST, len(manifest))
                assert piece.offset == len(received)
                received += piece.data
            assert received == manifest
            assert await fetcher.hear() == NoManifest(ManifestId("cd" * 32))

    run(main)


def test_what_is_cancelled_is_not_sent() -> None:
    async def main() -> None:
        async with seeding() as stage:
            stage.source.gate = trio.Event()
            fetcher = await stage.fetcher()
            await fetcher.say(Request(1, FILE, 0), Request(2, FILE, 1), Request(3, FILE, LAST))
            await fetcher.say(Cancel(1), Cancel(2), Cancel(99))
            await fetcher.hear_nothing(1)
            stage.source.gate.set()
            assert await fetcher.chunk(3, 100_000) == DATA[2 * CHUNK_SIZE :]
            assert stage.source.reads == 2

    run(main)


def test_what_is_cancelled_while_it_waits_for_a_slot_is_not_read() -> None:
    async def main() -> None:
        async with seeding(peers=2, limits=UploadLimits(slots=1, turn=math.inf)) as stage:
            first, second = await stage.fetcher(0), await stage.fetcher(1)
            await first.say(Request(1, FILE, 0))
            await first.hear()
            await second.say(Request(1, FILE, 0))
            await second.hear_nothing(1)
            await second.say(Cancel(1), Request(2, FILE, LAST))
            await second.hear_nothing(1)
            await first.frames.reset()
            assert await second.chunk(2, 100_000) == DATA[2 * CHUNK_SIZE :]
            assert stage.source.reads == 2

    run(main)


def test_the_next_chunk_is_read_while_one_is_sent_and_no_other_in_its_place() -> None:
    async def main() -> None:
        async with seeding() as stage:
            fetcher = await stage.fetcher()
            await fetcher.say(Request(1, FILE, 0), Request(2, FILE, 1))
            await trio.sleep(1)
            assert stage.source.reads == 2, "nothing of the first one was taken"
            await fetcher.say(Cancel(2), Request(3, FILE, LAST))
            assert DATA.startswith(await fetcher.chunk(1, CHUNK_SIZE // 2))
            await trio.sleep(1)
            assert stage.source.reads == 2

    run(main)


def test_what_is_read_in_vain_is_no_faster_than_what_is_sent() -> None:
    """A chunk is read whole before its first piece is sent."""

    async def main() -> None:
        limits = UploadLimits(busy_rate=20e6)
        async with seeding(limits=limits, is_inference_busy=lambda: True) as stage:
            fetcher, number, began_at = await stage.fetcher(), 0, trio.current_time()
            while trio.current_time() < began_at + 10:
                await fetcher.say(Request(number, FILE, 0), Request(number + 1, FILE, 1))
                while (await fetcher.hear()).id != number:  # type: ignore[union-attr]
                    pass  # What crossed the CANCEL.
                await fetcher.say(Cancel(number), Cancel(number + 1))
                number += 2
            assert stage.source.reads * CHUNK_SIZE < 1.2 * 10 * limits.busy_rate

    run(main)


def test_a_chunk_that_could_not_be_read_ahead_is_refused_in_its_turn() -> None:
    async def main() -> None:
        async with seeding() as stage:
            fetcher = await stage.fetcher()
            await fetcher.say(Request(1, FILE, 0))
            await trio.sleep(1)
            stage.source.data = None
            await fetcher.say(Request(2, FILE, 1))
            assert await fetcher.chunk(1, CHUNK_SIZE) == DATA[:CHUNK_SIZE]
            assert await fetcher.hear() == Refused(2, "gone")

    run(main)


def test_a_chunk_that_is_cancelled_in_its_middle_stops_there() -> None:
    async def main() -> None:
        async with seeding() as stage:
            fetcher = await stage.fetcher()
            await fetcher.say(Request(1, FILE, 0))
            assert isinstance(await fetcher.hear(), Data)
            await fetcher.say(Cancel(1), Request(2, FILE, LAST))
            size = 0
            while isinstance(message := await fetcher.hear(), Data) and message.id == 1:
                size += len(message.data)
            assert size < CHUNK_SIZE / 2
            assert isinstance(message, Data)
            assert (message.id, message.offset) == (2, 0)

    run(main)


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([Request(1, FILE, 3)], id="a chunk beyond the file"),
        pytest.param([Request(1, FILE, 0), Request(1, FILE, 1)], id="one id twice"),
        pytest.param([Follow(file_key(f"{n:064x}")) for n in range(FOLLOWS_MAX + 1)], id="many files"),
        pytest.param([WantManifest(MANIFEST)] * (MANIFESTS_MAX + 1), id="many manifests"),
    ],
)
def test_who_breaks_the_protocol_is_cut_off(messages: list[FetcherMessage]) -> None:
    async def main() -> None:
        async with seeding() as stage:
            stage.source.gate, stage.source.calls_everything_so = trio.Event(), True
            fetcher = await stage.fetcher()
            await fetcher.say(*messages[:-1])
            await trio.sleep(1)
            assert stage.networks[0].me in stage.seeder._open, "all but the last were allowed"
            await fetcher.say(messages[-1])
            assert await fetcher.is_cut_off()
            stage.source.gate.set()
            again = await stage.fetcher()
            assert await again.fetch(LAST) == DATA[2 * CHUNK_SIZE :]

    run(main)


def test_who_says_what_no_fetcher_says_is_cut_off() -> None:
    async def main() -> None:
        async with seeding() as stage:
            fetcher = await stage.fetcher()
            await fetcher.frames.send({"kind": 11})
            assert await fetcher.is_cut_off()

    run(main)


def test_more_requests_than_are_kept_are_refused_and_the_others_answered() -> None:
    async def main() -> None:
        async with seeding() as stage:
            stage.source.gate = trio.Event()
            fetcher = await stage.fetcher()
            await fetcher.say(*(Request(number, FILE, LAST) for number in range(REQUESTS_MAX + 2)))
            assert await fetcher.hear() == Refused(REQUESTS_MAX, "busy")
            assert await fetcher.hear() == Refused(REQUESTS_MAX + 1, "busy")
            stage.source.gate.set()
            for number in range(REQUESTS_MAX):
                await fetcher.chunk(number, 100_000)

    run(main)


def test_who_asks_without_end_and_reads_nothing_is_not_listened_to() -> None:
    """Each answer is waited for before the next question is read, so none of them pile up."""

    async def main() -> None:
        async with seeding() as stage:
            stage.source.gate = trio.Event()
            fetcher, said = await stage.fetcher(), 0
            with trio.move_on_after(10):
                while said < 50_000:
                    await fetcher.say(Request(said, FILE, LAST))
                    said += 1
            assert REQUESTS_MAX < said < 50_000

    run(main)


def test_who_comes_while_all_slots_are_taken_waits_in_silence_and_is_served() -> None:
    async def main() -> None:
        async with seeding(peers=2, limits=ONE_SLOT) as stage:
            stage.source.gate = trio.Event()
            first, second = await stage.fetcher(0), await stage.fetcher(1)
            await first.say(Request(1, FILE, LAST))
            await first.hear_nothing(0.1)
            await second.say(Request(1, FILE, LAST))
            await second.hear_nothing(0.5)
            assert stage.source.reads == 1
            stage.source.gate.set()
            assert await second.chunk(1, 100_000) == await first.chunk(1, 100_000)

    run(main)


def test_who_does_not_read_holds_up_others_for_one_turn() -> None:
    async def main() -> None:
        async with seeding(peers=2, limits=ONE_SLOT) as stage:
            slow, other = await stage.fetcher(0), await stage.fetcher(1)
            await slow.say(Request(1, FILE, 0))
            await trio.sleep(0.1)
            began_at = trio.current_time()
            await other.fetch(0)
            assert trio.current_time() - began_at < 1.1
            # What it did not read was not kept, and comes all the same.
            assert await slow.chunk(1, CHUNK_SIZE) == DATA[:CHUNK_SIZE]
            assert stage.source.reads == 3

    run(main)


def test_who_does_not_read_for_long_is_cut_off() -> None:
    async def main() -> None:
        async with seeding(limits=ONE_SLOT) as stage:
            fetcher = await stage.fetcher()
            await fetcher.say(Request(1, FILE, 0), Request(2, FILE, 1))
            await trio.sleep(100)
            assert await fetcher.is_cut_off()

    run(main)


def test_who_goes_in_the_middle_leaves_its_slot() -> None:
    async def main() -> None:
        async with seeding(peers=3, limits=UploadLimits(slots=1, turn=math.inf)) as stage:
            first, second, third = [await stage.fetcher(number) for number in range(3)]
            await first.say(Request(1, FILE, 0))
            await first.hear()
            await second.say(Request(1, FILE, 0))
            await second.hear_nothing(10)
            await first.frames.reset()
            await second.hear()
            await second.frames.stream.send_eof()
            assert await third.fetch(LAST) == DATA[2 * CHUNK_SIZE :]

    run(main)


def test_another_stream_of_a_peer_replaces_the_one_before() -> None:
    async def main() -> None:
        async with seeding(limits=ONE_SLOT) as stage:
            before = await stage.fetcher()
            await before.say(Request(1, FILE, 0))
            await before.hear()
            after = await stage.fetcher()
            assert await after.fetch(LAST) == DATA[2 * CHUNK_SIZE :]
            assert await before.is_cut_off()

    run(main)


def test_the_rate_holds_and_is_lower_while_the_node_infers() -> None:
    async def main() -> None:
        is_busy = False
        limits = UploadLimits(rate=2e6, busy_rate=0.5e6)
        async with seeding(limits=limits, is_inference_busy=lambda: is_busy) as stage:
            fetcher = await stage.fetcher()
            began_at = trio.current_time()
            await fetcher.fetch(0)
            assert trio.current_time() - began_at == pytest.approx(CHUNK_SIZE / 2e6, rel=0.05)
            is_busy = True
            began_at = trio.current_time()
            await fetcher.fetch(0)
            assert trio.current_time() - began_at == pytest.approx(CHUNK_SIZE / 0.5e6, rel=0.05)

    run(main)


class Passes(trio.abc.Instrument):
    """How often everybody who could run has run."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


def test_everybody_else_runs_between_any_two_pieces() -> None:
    async def main() -> None:
        passes, at_pieces = Passes(), []

        def is_inference_busy() -> bool:  # Asked before each piece, and how large it should be.
            at_pieces.append(passes.count)
            return False

        async with seeding(is_inference_busy=is_inference_busy) as stage:
            fetcher = await stage.fetcher()
            trio.lowlevel.add_instrument(passes)
            await fetcher.fetch(0)
            trio.lowlevel.remove_instrument(passes)
        assert len(set(at_pieces)) >= math.ceil(CHUNK_SIZE / PIECE_SIZE_FAST)

    run(main)
