"""Digest of all claims a node holds: equal digests, equal claims.

Each claim is hashed and the hashes are XORed, so a change costs two hashes however many
claims there are. They fall into buckets by the peer's id: of two nodes that differ in
the news of the last seconds, each learns which thirty of a thousand claims to send.

Against accidents, not against lies: who lies here is told too little, or tells too much.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from ledger.rumour import Claim, Status
from p2p.peer import PeerId

BUCKETS = 32
"""A thousand claims take 60 KB, a bucket of them 2 KB. More would make the digest itself, which is sent
although nothing changed, the larger part."""

_BUCKET_BYTES = 8
"""Two sets that differ look equal once in 2**64 times."""

DIGEST_SIZE = BUCKETS * _BUCKET_BYTES


def bucket_of(peer: PeerId) -> int:
    """Where the claim about `peer` falls."""
    return zlib.crc32(peer.encode()) % BUCKETS


@dataclass(slots=True)
class ClaimsDigest:
    """Kept up to date by whoever holds the claims. That nothing is known of a peer is no claim."""

    _buckets: list[int] = field(default_factory=lambda: [0] * BUCKETS)

    def change(self, peer: PeerId, before: Claim, after: Claim) -> None:
        """Of `peer` is held `after`, no longer `before`."""
        self._buckets[bucket_of(peer)] ^= _mark(peer, before) ^ _mark(peer, after)

    def to_bytes(self) -> bytes:
        return b"".join(bucket.to_bytes(_BUCKET_BYTES, "big") for bucket in self._buckets)

    def differing(self, other: bytes) -> Sequence[int]:
        """The buckets in which whoever has the digest `other` holds something else."""
        mine = self.to_bytes()
        if mine == other:
            return ()
        cuts = [slice(start, start + _BUCKET_BYTES) for start in range(0, DIGEST_SIZE, _BUCKET_BYTES)]
        return [index for index, cut in enumerate(cuts) if mine[cut] != other[cut]]


def _mark(peer: PeerId, claim: Claim) -> int:
    if claim.status is Status.UNKNOWN:
        return 0
    text = f"{peer} {claim.incarnation} {claim.status.value}"
    return int.from_bytes(blake2b(text.encode(), digest_size=_BUCKET_BYTES).digest(), "big")
