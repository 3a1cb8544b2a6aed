"""One stream stands for each member, while it is a member."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import trio
from trio.testing import MockClock, memory_stream_pair

from ledger.standing_streams import RETRY_DELAY_MAX, StandingStreams
from p2p.errors import Unreachable
from p2p.frame_stream import FrameStream
from p2p.network import PeerStream, StreamHandler
from p2p.peer import PeerId
from p2p.peer_events import PeerAdmitted, PeerEvents, PeerLost

ANN, BOB, CAROL = PeerId("ann"), PeerId("bob"), PeerId("carol")


class PipeStream(PeerStream):
    """A stream whose other end is `far`."""

    def __init__(self, peer: PeerId) -> None:
        self.peer = peer
        self._near, self.far = memory_stream_pair()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._near.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._near.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._near.receive_some(max_bytes))

    async def send_eof(self) -> None:
        await self._near.send_eof()

    async def aclose(self) -> None:
        await self._near.aclose()

    async def reset(self) -> None:
        await self._near.aclose()


class ScriptedMembers:
    """Members that come and go as a test says."""

    def __init__(self) -> None:
        self.events = PeerEvents()
        self.handlers: dict[str, StreamHandler] = {}
        self.opened: list[PipeStream] = []
        self.attempts = 0
        self.is_reachable = True
        self.is_listening = True
        """It does not hang up as soon as a stream is open."""

    @property
    def me(self) -> PeerId:
        return BOB

    @contextmanager
    def subscribe(self) -> Iterator[PeerEvents]:
        yield self.events

    def on_stream(self, protocol_id: str, handler: StreamHandler) -> None:
        self.handlers[protocol_id] = handler

    async def open_stream(self, peer: PeerId, protocol_id: str) -> PeerStream:
        await trio.lowlevel.checkpoint()
        self.attempts += 1
        if not self.is_reachable:
            raise Unreachable("test")
        self.opened.append(PipeStream(peer))
        if not self.is_listening:
            await self.opened[-1].far.aclose()
        return self.opened[-1]


async def talk(peer: PeerId, frames: FrameStream) -> None:
    while await frames.receive():
        pass


def attempts_are_few(members: ScriptedMembers) -> bool:
    """In an hour."""
    return 3600 / RETRY_DELAY_MAX <= members.attempts <= 2.2 * 3600 / RETRY_DELAY_MAX


async def story(members: ScriptedMembers) -> None:
    """Everything that happens to one member, with what must be true after each step."""
    members.events.publish(PeerAdmitted(ANN))
    members.events.publish(PeerAdmitted(CAROL))
    await trio.sleep(60)
    assert [stream.peer for stream in members.opened] == [CAROL], "the larger id waits for the smaller"

    await members.opened[-1].far.aclose()
    await trio.sleep(1)
    assert len(members.opened) == 2, "a stream that ended is opened again soon"

    members.is_reachable = False
    await members.opened[-1].far.aclose()
    members.attempts = 0
    await trio.sleep(3600)
    assert attempts_are_few(members), "who cannot be reached is asked ever less often"

    members.is_reachable, members.is_listening = True, False
    await trio.sleep(RETRY_DELAY_MAX)
    members.attempts = 0
    await trio.sleep(3600)
    assert attempts_are_few(members), "and so is who hangs up at once"
    members.is_listening = True
    await trio.sleep(RETRY_DELAY_MAX)
    opened = len(members.opened)

    members.events.publish(PeerLost(CAROL, announced=False, reason="test"))
    await trio.sleep(3600)
    assert len(members.opened) == opened, "nobody asks for who is gone"

    members.events.publish(PeerAdmitted(CAROL))
    await trio.sleep(60)
    assert len(members.opened) == opened + 1

    members.events.publish(PeerLost(CAROL, announced=True, reason="test"))
    await trio.testing.wait_all_tasks_blocked()
    assert await members.opened[-1].far.receive_some() == b"", "it is closed with its member"
    members.events.close()


def test_a_stream_stands_as_long_as_its_member() -> None:
    async def main() -> None:
        members = ScriptedMembers()
        streams = StandingStreams(members, "/test/1", 64, talk, Random(3))
        assert list(members.handlers) == ["/test/1"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(streams.run)
            await story(members)

    trio.run(main, clock=MockClock(autojump_threshold=0))
