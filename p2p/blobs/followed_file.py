"""A file that a peer follows: what it was told of it, and what is news.

begin -> HAVE, then GAINED or HAVE with each change of the offer -> end, or NO_FILE
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import trio

from p2p.blobs.blob_messages import GAINED_MAX, Gained, Have, NoFile, SeederMessage
from p2p.blobs.have_map import HaveMap
from p2p.blobs.manifest import HASH_SIZE, FileKey
from p2p.blobs.source import ChunkSource, Offer


class FollowedFile:
    """One file, followed by one peer, which is told by the one task that runs `tell`."""

    def __init__(self, file: FileKey) -> None:
        self.file = file
        self._is_followed = False
        self._with_hashes = False
        self._facts: tuple[int, str, bool] | None = None
        self._known: HaveMap | None = None
        """The chunks that the peer knows of; None: it was told nothing since it asked."""
        self._waiting = trio.CancelScope()

    def begin(self, *, with_hashes: bool) -> None:
        """The peer asked, for the first time or anew."""
        self._is_followed = True
        self._with_hashes = with_hashes
        self._facts = self._known = None
        self._waiting.cancel()

    def end(self) -> None:
        """The peer does not want to know any more."""
        self._is_followed = False
        self._waiting.cancel()

    async def tell(self, source: ChunkSource, send: Callable[[SeederMessage], Awaitable[None]]) -> None:
        """Tell what comes, until the peer does not want to know, or there is nothing to tell.

        What `send` raises passes through. Cancelled: as is `send`.
        """
        while self._is_followed:
            if (offer := source.offer(self.file)) is None:
                self._is_followed = False
                await send(NoFile(self.file))
                continue
            number = offer.changed.number
            for message in self.news(offer):
                await send(message)
            with trio.CancelScope() as self._waiting:
                if self._is_up_to_date():
                    await offer.changed.after(number)

    def _is_up_to_date(self) -> bool:
        """Whether nothing was asked while it was told."""
        return self._is_followed and self._known is not None

    def news(self, offer: Offer) -> Iterator[Have | Gained]:
        """What the peer does not know of `offer`. It counts as told as soon as the first is asked for.

        What changes in the offer while this is told is news of the next time.
        """
        have, facts = offer.have.copy(), (offer.size_bytes, offer.sha256, offer.is_growing)
        known, is_another = self._known, facts != self._facts
        if known is None or known.chunk_count != have.chunk_count:
            known = HaveMap(have.chunk_count)
        self._known, self._facts = have, facts
        if is_another or next(known.beyond(have), None) is not None:
            yield Have(self.file, offer.size_bytes, have.to_bytes(), offer.sha256, offer.is_growing)
            if not self._with_hashes:
                return
        yield from self._gained(offer, list(have.beyond(known)))

    def _gained(self, offer: Offer, chunks: list[int]) -> Iterator[Gained]:
        for start in range(0, len(chunks), GAINED_MAX):
            batch = tuple(chunks[start : start + GAINED_MAX])
            hashes = (offer.hashes[chunk * HASH_SIZE : (chunk + 1) * HASH_SIZE] for chunk in batch)
            yield Gained(self.file, batch, b"".join(hashes) if self._with_hashes else b"")
