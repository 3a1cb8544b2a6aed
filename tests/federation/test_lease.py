"""Leases go back to zero."""

from __future__ import annotations

import pytest
import trio

from federation.lease import Leases
from ledger.records import ModelName
from p2p.peer import PeerId

A, B = PeerId("a"), PeerId("b")
TINY, LARGE = ModelName("tiny"), ModelName("large")


def test_a_lease_counts_for_its_peer_and_model_only() -> None:
    leases = Leases()
    with leases.hold(A, TINY), leases.hold(A, TINY), leases.hold(B, TINY):
        assert leases.count(A, TINY) == 2
        assert leases.count(B, TINY) == 1
        assert leases.count(A, LARGE) == 0
    assert leases.count(A, TINY) == leases.count(B, TINY) == 0


def test_an_error_releases_the_lease() -> None:
    leases = Leases()
    with pytest.raises(ValueError, match="oh"), leases.hold(A, TINY):
        raise ValueError("oh")
    assert leases.count(A, TINY) == 0


def test_cancellation_releases_the_lease() -> None:
    leases = Leases()

    async def main() -> None:
        with trio.move_on_after(0), leases.hold(A, TINY):
            await trio.sleep_forever()

    trio.run(main)
    assert leases.count(A, TINY) == 0


def test_nothing_is_kept_of_a_peer_without_leases() -> None:
    leases = Leases()
    for number in range(100):
        with leases.hold(PeerId(f"peer {number}"), TINY):
            pass
        assert leases.count(PeerId(f"peer {number}"), TINY) == 0
    assert leases._held == {}
