"""Turns in uploading: `upload.py` carried out on trio.

await turns.take(peer, size)        # a piece may be sent now
turns.leave(peer)                   # nothing more to send
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import trio

from p2p.blobs.upload import Upload, UploadLimits
from p2p.peer import PeerId


class UploadTurns:
    """Lets those who have a piece to send wait for their turns."""

    def __init__(self, limits: UploadLimits, is_inference_busy: Callable[[], bool]) -> None:
        self._limits = limits
        self._upload = Upload(limits)
        self._is_inference_busy = is_inference_busy
        self._turns: dict[PeerId, trio.Event] = {}
        """Of those who wait."""
        self._sleep = trio.CancelScope()

    async def run(self) -> None:
        """Give turns that only time brings, until cancelled."""
        while True:
            with trio.CancelScope(deadline=self._upload.wake_at) as self._sleep:
                await trio.sleep_forever()
            self._give()

    async def take(self, peer: PeerId, size: int) -> None:
        """Return when `peer`, which has sent its last piece, may send one of `size` bytes.

        Cancelled: it still waits for its turn; call `leave`.
        """
        turn = self._turns[peer] = trio.Event()
        self._upload.want(peer, size, trio.current_time())
        self._give()
        if not turn.is_set():  # Mostly it is, and sending lets others run.
            await turn.wait()

    def leave(self, peer: PeerId) -> None:
        """`peer` has nothing to send, or is gone."""
        self._turns.pop(peer, None)
        self._upload.leave(peer, trio.current_time())
        self._give()

    def spend(self, size: int) -> None:
        """So much was read in vain, since its peer took back what it wanted."""
        self._upload.spend(size, trio.current_time())

    def piece_size(self) -> int:
        """Bytes that should be sent at a time now."""
        return self._limits.piece_size(is_inference_busy=self._is_inference_busy())

    def peers(self) -> Collection[PeerId]:
        """Who has something to be sent."""
        return self._upload.peers()

    def has_slot(self, peer: PeerId) -> bool:
        """Whether what is sent to `peer` next is worth keeping in memory: it is soon."""
        return self._upload.has_slot(peer)

    def _give(self) -> None:
        for peer in self._upload.due(trio.current_time(), is_inference_busy=self._is_inference_busy()):
            self._turns.pop(peer).set()
        self._sleep.deadline = self._upload.wake_at
