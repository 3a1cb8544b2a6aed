"""A cable in memory: two byte streams, with distance, loss and faults between their ends.

It behaves like a TCP connection seen by a program. Bytes arrive late, in order and
once; loss only delays them (a retransmission); a cut or frozen path holds them until
it heals; a process that dies takes its end of the cable with it.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

import trio

from p2p.peer import PeerId

_IN_FLIGHT_SIZE_MAX = 256 * 1024
"""Bytes written and not yet read, as a kernel would hold: then the writer waits."""
_RETRANSMISSION_DELAY = 0.2
"""Linux's smallest retransmission timeout; real ones grow from there."""


@dataclass(frozen=True, slots=True)
class LinkQuality:
    """How good the cables are. The defaults are a wired home network."""

    latency: float = 0.0005
    """Seconds one way."""
    jitter: float = 0.0
    """Seconds more at most, evenly spread."""
    loss: float = 0.0
    """Share of writes that must be sent again."""
    dial_loss: float = 0.0
    """Share of dials that fail."""

    def delay(self, rng: Random) -> float:
        """Seconds until a write made now arrives."""
        delay = self.latency + self.jitter * rng.random()
        if self.loss and rng.random() < self.loss:
            delay += _RETRANSMISSION_DELAY
        return delay


@dataclass(slots=True)
class _Arrival:
    time: float
    data: bytes | None
    """None: the end."""


class Weather(Protocol):
    """What a wire must know of the world around it."""

    def is_open(self, source: PeerId, target: PeerId) -> bool:
        """Whether bytes move from `source` to `target` now."""

    def delay(self) -> float:
        """Seconds until a write made now arrives."""

    def forget(self, wire: MemoryWire) -> None:
        """Nothing will be received from `wire` any more."""


class MemoryWire:
    """One direction of a cable."""

    def __init__(self, weather: Weather, source: PeerId, target: PeerId) -> None:
        self.ends: Final = frozenset({source, target})
        self._weather = weather
        self._source = source
        self._target = target
        self._is_silent = False
        self._in_flight: deque[_Arrival] = deque()
        self._in_flight_size = 0
        self._last_arrival = 0.0
        self._is_ended = False
        self._is_severed = False
        self._changed = trio.lowlevel.ParkingLot()

    async def put(self, data: bytes) -> None:
        """Send `data`, once there is room. Into a severed wire it is lost: the sender hears of
        that end only by what comes the other way.

        Raises:
          trio.ClosedResourceError: our own end is closed.
        """
        await trio.lowlevel.checkpoint()
        while self._in_flight_size >= _IN_FLIGHT_SIZE_MAX and not (self._is_ended or self._is_severed):
            await self._changed.park()
        if self._is_ended:
            raise trio.ClosedResourceError
        if not self._is_severed:
            self._in_flight_size += len(data)
            self._append(data)

    async def take(self) -> bytes:
        """What arrives next; `b""` at the end.

        Raises:
          trio.ClosedResourceError: our own end is closed.
        """
        await trio.lowlevel.checkpoint()
        while not self._is_severed:
            is_moving = not self._is_silent and self._weather.is_open(self._source, self._target)
            wake_at = self._in_flight[0].time if self._in_flight and is_moving else math.inf
            if wake_at <= trio.current_time():
                return self._take_first()
            with trio.move_on_at(wake_at):
                await self._changed.park()
        raise trio.ClosedResourceError

    def end(self) -> None:
        """The sender's end closed: what is under way still arrives, then the end."""
        if not self._is_ended:
            self._is_ended = True
            self._append(None)

    def sever(self) -> None:
        """The receiver's end closed."""
        self._is_severed = True
        self._in_flight.clear()
        self._weather.forget(self)
        self._changed.unpark_all()

    def silence(self) -> None:
        """Nothing arrives here ever again, not even the end."""
        self._is_silent = True

    def wake(self) -> None:
        """Whether bytes move may have changed."""
        self._changed.unpark_all()

    def _append(self, data: bytes | None) -> None:
        # A late segment holds up those behind it, as TCP does.
        self._last_arrival = max(self._last_arrival, trio.current_time() + self._weather.delay())
        self._in_flight.append(_Arrival(self._last_arrival, data))
        self._changed.unpark_all()

    def _take_first(self) -> bytes:
        data = self._in_flight[0].data
        if data is None:
            return b""
        self._in_flight.popleft()
        self._in_flight_size -= len(data)
        self._changed.unpark_all()
        return data


class MemoryCableEnd(trio.abc.Stream):
    """One end of a cable, as a trio stream."""

    def __init__(self, outgoing: MemoryWire, incoming: MemoryWire) -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self._unread = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._outgoing.put(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = self._unread or await self._incoming.take()
        size = len(data) if max_bytes is None else max_bytes
        self._unread = data[size:]
        return data[:size]

    async def aclose(self) -> None:
        self._outgoing.end()
        self._incoming.sever()
        await trio.lowlevel.checkpoint()
