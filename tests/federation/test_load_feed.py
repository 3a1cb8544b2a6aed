"""The load feed: a front that uses a peer hears what changes there, and of the slots it is offered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from federation.gated_backend import GatedBackend
from federation.load_feed import (
    FRAME_SIZE_MAX,
    MESSAGES_BURST,
    MESSAGES_RATE,
    PROTOCOL_ID,
    PUSH_INTERVAL,
    LoadsTold,
    WaitingTold,
    encode,
)
from federation.load_feed_client import USED_FOR, LoadFeeds
from federation.load_feed_server import LoadFeedServer
from ledger.probe import Loads
from ledger.records import Load, ModelName
from p2p.frame_stream import FrameStream
from p2p.memory_network import MemoryHub, MemoryNetwork
from p2p.network import PeerStream
from p2p.peer import PeerId

if TYPE_CHECKING:
    from tests.federation.conftest import Stage

MODEL, OTHER = ModelName("tiny"), ModelName("other")
FRONT, WORKER = PeerId("front"), PeerId("worker")
A_MOMENT = 0.01


@dataclass
class Feed:
    """A front that listens to a worker, and what it heard."""

    front: MemoryNetwork
    worker: MemoryNetwork
    feeds: LoadFeeds = field(init=False)
    server: LoadFeedServer = field(init=False)
    backend: GatedBackend = field(init=False)
    loads: dict[ModelName, Load] = field(default_factory=lambda: {MODEL: Load(1, 0), OTHER: Load(2, 0)})
    heard: list[tuple[float, Loads]] = field(default_factory=list)
    offered: list[tuple[PeerId, ModelName]] = field(default_factory=list)

    def say(self, busy: int) -> None:
        self.loads[OTHER] = Load(2, busy)
        self.server.note_change()

    @property
    def last_heard(self) -> Mapping[ModelName, Load]:
        return {model: load for _, loads in self.heard for model, load in loads.items()}


@asynccontextmanager
async def listening(stage: Stage, *, serves: bool = True) -> AsyncIterator[Feed]:
    hub = MemoryHub()
    async with hub.network(FRONT) as front, hub.network(WORKER) as worker, trio.open_nursery() as nursery:
        await front.dial(worker.listen_addresses[0])
        feed = Feed(front, worker)
        feed.backend = GatedBackend(stage.worker(WORKER, gap=1.0), lambda: feed.loads)
        feed.server = LoadFeedServer(feed.backend)
        if serves:
            feed.server.attach(worker)
        begun = trio.current_time()
        feed.feeds = LoadFeeds(
            front, lambda peer, loads: feed.heard.append((trio.current_time() - begun, loads))
        )
        feed.feeds.on_offer = lambda peer, model: feed.offered.append((peer, model))
        nursery.start_soon(feed.backend.run)
        nursery.start_soon(feed.feeds.run)
        await trio.testing.wait_all_tasks_blocked()
        yield feed
        nursery.cancel_scope.cancel()


async def _read_to_the_end(frames: FrameStream) -> None:
    while await frames.receive() is not None:
        pass


def test_a_front_that_uses_a_peer_hears_its_loads_at_once_and_what_changes(stage: Stage) -> None:
    async def main() -> None:
        async with listening(stage) as feed:
            await trio.sleep(5)
            assert feed.heard == []
            feed.feeds.note_use(WORKER)
            await trio.sleep(A_MOMENT)
            assert feed.heard[0][1] == feed.loads
            await trio.sleep(5)
            assert len(feed.heard) == 1
            feed.say(1)
            await trio.sleep(A_MOMENT)
            assert feed.heard[1][1] == {OTHER: Load(2, 1)}

    stage.run(main)


def test_changes_are_told_four_times_a_second_at_most_and_the_newest_is_told(stage: Stage) -> None:
    async def main() -> None:
        async with listening(stage) as feed:
            feed.feeds.note_use(WORKER)
            for number in range(1000):
                feed.say(number)
                await trio.sleep(0.01)
            await trio.sleep(PUSH_INTERVAL)
            times = [at for at, _ in feed.heard]
            assert 35 < len(times) <= 42
            assert min(later - earlier for earlier, later in pairwise(times)) > 0.24
            assert feed.last_heard[OTHER] == Load(2, 999)

    stage.run(main)


def test_what_changed_and_changed_back_is_not_told(stage: Stage) -> None:
    async def main() -> None:
        async with listening(stage) as feed:
            feed.feeds.note_use(WORKER)
            await trio.sleep(A_MOMENT)
            feed.say(1)
            feed.say(0)
            await trio.sleep(1)
            assert len(feed.heard) == 1

    stage.run(main)


def test_who_waits_is_offered_the_slot_that_frees_and_told_at_once(stage: Stage) -> None:
    async def main() -> None:
        async with listening(stage) as feed:
            async with feed.backend.for_front(PeerId("other front")).infer(stage.request()):
                feed.feeds.tell_waiting(WORKER, MODEL, 1)
                await trio.sleep(A_MOMENT)
                assert feed.offered == []
                # So the loads have just been told, and the next are not due.
                feed.say(1)
                await trio.sleep(A_MOMENT)
            await trio.sleep(A_MOMENT)
            assert feed.offered == [(WORKER, MODEL)]
            await stage.read(feed.backend.for_front(FRONT), stage.request())

    stage.run(main)


def test_a_peer_is_listened_to_for_a_minute_after_its_last_use(stage: Stage) -> None:
    async def main() -> None:
        async with listening(stage) as feed:
            feed.feeds.note_use(WORKER)
            await trio.sleep(USED_FOR / 2)
            feed.feeds.note_use(WORKER)
            await trio.sleep(USED_FOR - 1)
            feed.say(1)
            await trio.sleep(A_MOMENT)
            assert feed.last_heard[OTHER] == Load(2, 1)
            await trio.sleep(1)
            feed.say(2)
            await trio.sleep(1)
            assert feed.last_heard[OTHER] == Load(2, 1)
            assert feed.server._fronts == {}
            assert feed.feeds._feeds == {}

    stage.run(main)


def test_a_peer_that_is_waited_for_is_listened_to_for_as_long_as_that_takes(stage: Stage) -> None:
    async def main() -> None:
        async with listening(stage) as feed:
            feed.feeds.tell_waiting(WORKER, MODEL, 3)
            await trio.sleep(10 * USED_FOR)
            feed.say(1)
            await trio.sleep(A_MOMENT)
            assert feed.last_heard[OTHER] == Load(2, 1)
            feed.feeds.tell_waiting(WORKER, MODEL, 0)
            await trio.sleep(USED_FOR + 1)
            assert feed.feeds._feeds == {}

    stage.run(main)


def test_a_front_that_is_gone_holds_no_slot(stage: Stage) -> None:
    async def main() -> None:
        async with listening(stage) as feed:
            async with feed.backend.for_front(PeerId("other front")).infer(stage.request()):
                feed.feeds.tell_waiting(WORKER, MODEL, 1)
                await trio.sleep(A_MOMENT)
                await feed.front.disconnect(WORKER)
                await trio.sleep(A_MOMENT)
            assert feed.backend.load(MODEL) == Load(1, 0)

    stage.run(main)


def test_a_broken_stream_is_opened_again_and_says_again_what_is_waited_for(stage: Stage) -> None:
    async def main() -> None:
        async with listening(stage) as feed:
            async with feed.backend.for_front(PeerId("other front")).infer(stage.request()):
                feed.feeds.tell_waiting(WORKER, MODEL, 1)
                await trio.sleep(A_MOMENT)
                await feed.front.disconnect(WORKER)
                await feed.front.dial(feed.worker.listen_addresses[0])
                await trio.sleep(6)
            await trio.sleep(A_MOMENT)
            assert feed.offered == [(WORKER, MODEL)]

    stage.run(main)


def test_a_peer_of_an_older_version_is_used_without(stage: Stage) -> None:
    async def main() -> None:
        async with listening(stage, serves=False) as feed:
            feed.feeds.note_use(WORKER)
            await trio.sleep(USED_FOR + 10)
            assert feed.feeds._feeds == {}

    stage.run(main)


@pytest.mark.parametrize("values", [{"kind": 1, "loads": {}}, {"kind": 2, "model": "m", "wanted": -1}, {}])
def test_a_front_that_breaks_the_protocol_loses_its_stream(stage: Stage, values: dict[str, Any]) -> None:
    async def main() -> None:
        async with listening(stage) as feed:
            stream = await feed.front.open_stream(WORKER, PROTOCOL_ID)
            async with FrameStream(stream, FRAME_SIZE_MAX) as frames:
                await frames.send(values)
                with pytest.raises(trio.BrokenResourceError):
                    await _read_to_the_end(frames)
            assert feed.server._fronts == {}

    stage.run(main)


@pytest.mark.parametrize("values", [{"kind": 2, "model": "m", "wanted": 1}, {"kind": 3}, {}])
def test_a_peer_that_breaks_the_protocol_is_asked_again_ever_so_often(
    stage: Stage, values: dict[str, Any]
) -> None:
    async def main() -> None:
        opened = 0

        async def lie(stream: PeerStream) -> None:
            nonlocal opened
            opened += 1
            await FrameStream(stream, FRAME_SIZE_MAX).send(values)
            await trio.sleep_forever()

        async with listening(stage, serves=False) as feed:
            feed.worker.on_stream(PROTOCOL_ID, lie)
            feed.feeds.note_use(WORKER)
            await trio.sleep(2 * USED_FOR)
            assert 10 <= opened <= 13
            assert (feed.heard, feed.offered) == ([], [])

    stage.run(main)


def test_another_stream_of_a_front_replaces_the_first(stage: Stage) -> None:
    async def main() -> None:
        async with listening(stage) as feed:
            first = FrameStream(await feed.front.open_stream(WORKER, PROTOCOL_ID), FRAME_SIZE_MAX)
            await first.receive()
            second = FrameStream(await feed.front.open_stream(WORKER, PROTOCOL_ID), FRAME_SIZE_MAX)
            await second.receive()
            assert await first.receive() is None
            await second.send(encode(WaitingTold(MODEL, 1)))
            # The slot is free, and so it is offered.
            values = await second.receive()
            assert values == {"kind": 3, "model": MODEL}

    stage.run(main)


def test_what_a_front_waited_for_on_a_stream_that_was_replaced_is_forgotten(stage: Stage) -> None:
    async def main() -> None:
        async with listening(stage) as feed:
            async with feed.backend.for_front(PeerId("other front")).infer(stage.request()):
                first = FrameStream(await feed.front.open_stream(WORKER, PROTOCOL_ID), FRAME_SIZE_MAX)
                await first.send(encode(WaitingTold(MODEL, 1)))
                await trio.sleep(A_MOMENT)
                second = FrameStream(await feed.front.open_stream(WORKER, PROTOCOL_ID), FRAME_SIZE_MAX)
                await second.receive()
            assert feed.backend.load(MODEL) == Load(1, 0)

    stage.run(main)


def test_a_peer_that_tells_without_end_is_read_at_a_pace(stage: Stage) -> None:
    async def main() -> None:
        async def flood(stream: PeerStream) -> None:
            frames = FrameStream(stream, FRAME_SIZE_MAX)
            for number in range(100_000):
                await frames.send(encode(LoadsTold({MODEL: Load(1, number % 2)})))

        async with listening(stage, serves=False) as feed:
            feed.worker.on_stream(PROTOCOL_ID, flood)
            feed.feeds.note_use(WORKER)
            await trio.sleep(10)
            assert len(feed.heard) <= MESSAGES_BURST + 10 * MESSAGES_RATE

    stage.run(main)


def test_a_front_that_tells_without_end_is_read_at_a_pace(stage: Stage) -> None:
    async def main() -> None:
        async with listening(stage) as feed, trio.open_nursery() as nursery:
            told: list[int] = []
            feed.backend.wait = lambda front, model, wanted: told.append(wanted)  # type: ignore[method-assign]

            async def flood() -> None:
                frames = FrameStream(await feed.front.open_stream(WORKER, PROTOCOL_ID), FRAME_SIZE_MAX)
                for number in range(100_000):
                    await frames.send(encode(WaitingTold(MODEL, number % 2)))

            nursery.start_soon(flood)
            await trio.sleep(10)
            assert len(told) <= MESSAGES_BURST + 10 * MESSAGES_RATE
            nursery.cancel_scope.cancel()

    stage.run(main)
