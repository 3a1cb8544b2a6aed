"""Leases go back to zero."""

from __future__ import annotations

import pytest
import trio

from federation.backend import Usage
from federation.lease import Lease, Leases
from federation.model_reference import ModelReference
from federation.prefix import Prefix
from federation.work import Work
from ledger.records import ModelName
from p2p.peer import PeerId

A, B = PeerId("a"), PeerId("b")
TINY, LARGE = ModelName("tiny"), ModelName("large")


def lease(peer: PeerId, slots: int = 1) -> Lease:
    return Lease(peer, TINY, Work(ModelReference(TINY)), began_at=0.0, slots=slots)


def test_a_lease_counts_its_slots_for_its_peer_and_model_only() -> None:
    leases = Leases()
    with leases.hold(lease(A)), leases.hold(lease(A, slots=3)), leases.hold(lease(B)):
        assert leases.count(A, TINY) == 4
        assert leases.count(B, TINY) == 1
        assert leases.count(A, LARGE) == 0
        assert len(leases.of(A, TINY)) == 2
    assert leases.count(A, TINY) == leases.count(B, TINY) == len(leases) == 0


def test_a_peer_cannot_say_that_a_request_cost_more_than_it_can_have() -> None:
    prompt = Work(ModelReference(TINY), prefix=Prefix(characters=100, ids=10))
    one = Lease(A, TINY, prompt, began_at=0.0, slots=1, tokens=5.0)
    assert one.spent(Usage(40, 5)) == 45
    assert one.spent(Usage(2**24, 2**24)) == 4 * 100 + 10 + 1024 + 5


def test_an_error_releases_the_lease() -> None:
    leases = Leases()
    with pytest.raises(ValueError, match="oh"), leases.hold(lease(A)):
        raise ValueError("oh")
    assert leases.count(A, TINY) == 0


def test_cancellation_releases_the_lease() -> None:
    leases = Leases()

    async def main() -> None:
        with trio.move_on_after(0), leases.hold(lease(A)):
            await trio.sleep_forever()

    trio.run(main)
    assert leases.count(A, TINY) == 0


def test_leases_may_end_in_any_order() -> None:
    leases = Leases()
    first, second = leases.hold(lease(A)), leases.hold(lease(A))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert leases.count(A, TINY) == 1
    third = leases.hold(lease(A))
    second.__exit__(None, None, None)
    third.__enter__()
    assert leases.count(A, TINY) == 1
    third.__exit__(None, None, None)
    assert leases._held == {}


def test_nothing_is_kept_of_a_peer_without_leases() -> None:
    leases = Leases()
    for number in range(100):
        with leases.hold(lease(PeerId(f"peer {number}"))):
            pass
        assert leases.count(PeerId(f"peer {number}"), TINY) == 0
    assert leases._held == {}
