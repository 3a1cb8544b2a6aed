"""Which of two writes of one owner is the newer one: (epoch, counter).

The counter counts an owner's writes. The epoch rises when the owner meets a write
of its own that it does not remember, because its disk was lost or rolled back:
without it, a node with an empty disk would count from one again and lose to its
own past for ever.

Only the owner makes versions of its entries, so no clock is needed to order them.
"""

from __future__ import annotations

from dataclasses import dataclass

VERSION_PART_MAX = 2**53
"""Of epoch and of counter: no owner counts that far in a lifetime, and every language's numbers
hold it. A version beyond it is a lie, told so that nothing newer could ever be written."""


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """Larger is newer."""

    epoch: int
    counter: int

    def next(self) -> Version:
        """The version of the owner's next write."""
        return Version(self.epoch, self.counter + 1)

    def epoch_beyond(self) -> Version:
        """Start of the epoch after this one: every version made from it is larger."""
        return Version(self.epoch + 1, 0)

    @property
    def is_plausible(self) -> bool:
        """False for what no honest owner ever reaches."""
        return self.epoch <= VERSION_PART_MAX and self.counter <= VERSION_PART_MAX


VERSION_ZERO = Version(epoch=1, counter=0)
"""Before an owner's first write."""
