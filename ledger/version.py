"""Which of two writes of one key is the newer one: (epoch, counter), or (lamport, writer).

A node's own keys have one writer. The counter counts its writes. The epoch rises when
it meets a write of its own that it does not remember, because its disk was lost or
rolled back: without it, a node with an empty disk would count from one again and lose
to its own past for ever. It also rises to leave deletions behind (`floor.py`).

A swarm-wide key has many writers. Each counts on from the number it finds there, which is
Lamport's clock; of two that counted alike the larger writer wins, everywhere.

No wall clock is asked, so none can be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

VERSION_PART_MAX = 2**53
"""Of epoch, counter and lamport: nobody counts that far in a lifetime, and every language's numbers
hold it. A version beyond it is a lie, told so that nothing newer could ever be written. (An admin who
lies can still hold one key of the swarm's at this number: a bound that depended on what we have seen
would make replicas differ for ever, and an admin that lies must be revoked anyway.)"""

WRITER_PREFIX_SIZE = 8
"""Bytes of the writer's public key that order it among others: enough to tell a swarm's admins apart."""


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """Larger is newer."""

    epoch: int
    """Of a swarm-wide key: Lamport's clock."""
    counter: int
    """Of a swarm-wide key: the writer."""

    def next(self) -> Version:
        """The version of the owner's next write."""
        return Version(self.epoch, self.counter + 1)

    def epoch_beyond(self) -> Version:
        """Start of the epoch after this one: every version made from it is larger."""
        return Version(self.epoch + 1, 0)


VERSION_ZERO = Version(epoch=1, counter=0)
"""Before an owner's first write."""


def shared_version(lamport: int, writer: bytes) -> Version:
    """The version of a swarm-wide write by the holder of the public key `writer` (32 bytes)."""
    return Version(lamport, int.from_bytes(writer[:WRITER_PREFIX_SIZE], "big"))
