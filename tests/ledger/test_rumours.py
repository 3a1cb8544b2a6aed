"""Claims merge whatever their order; rumours fade."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from ledger.beliefs import STRANGERS_MAX, Beliefs
from ledger.liveness_config import LivenessConfig
from ledger.rumour import Claim, Rumour, RumourQueue, Status, complaint
from p2p.peer import PeerId

ME, BOB, CAROL = PeerId("alice"), PeerId("bob"), PeerId("carol")

claims = st.builds(Claim, st.integers(0, 3), st.sampled_from([Status.ALIVE, Status.SUSPECT, Status.OFFLINE]))
rumours = st.lists(st.builds(Rumour, st.sampled_from([BOB, CAROL]), claims), max_size=6)


def believing(heard: Sequence[Rumour]) -> Beliefs:
    beliefs = Beliefs(ME, LivenessConfig())
    beliefs.know(frozenset({BOB, CAROL}), 0.0)
    beliefs.hear(heard, 0.0)
    return beliefs


@given(rumours.flatmap(lambda heard: st.tuples(st.just(heard), st.permutations(heard + heard[:2]))))
def test_the_same_rumours_in_any_order_and_number_hold_the_same_against_each_peer(
    both: tuple[list[Rumour], list[Rumour]],
) -> None:
    # A suspect and one offline are alike here: who was thought alive before has time to refute.
    once, often = (
        {peer: (health.claim.incarnation, complaint(health.claim) is None) for peer, health in held.items()}
        for held in (believing(heard).peers for heard in both)
    )
    assert once == often


@given(rumours)
def test_what_is_known_already_is_no_news(heard: list[Rumour]) -> None:
    beliefs = believing(heard)
    beliefs.take_news()
    beliefs.hear(heard, 1.0)
    assert beliefs.take_news() == []


@given(rumours)
def test_only_suspects_have_a_deadline(heard: list[Rumour]) -> None:
    beliefs = believing(heard)
    suspects = [peer for peer, health in beliefs.peers.items() if health.status is Status.SUSPECT]
    assert len(list(beliefs.deadlines)) == len(suspects)


def test_rumours_told_least_often_go_first_and_each_ends() -> None:
    queue = RumourQueue()
    peers = [PeerId(f"peer{number}") for number in range(10)]
    for peer in peers:
        queue.add(peer, Claim(0, Status.SUSPECT))
    told: list[PeerId] = []
    while rumours := queue.take(3, swarm_size=11):
        told += [rumour.peer for rumour in rumours]
        assert len(told) < 1000
    counts = {told.count(peer) for peer in peers}
    assert len(counts) == 1
    assert sorted(told[:10]) == peers


def test_a_newer_claim_takes_the_place_of_the_older_in_the_queue() -> None:
    queue = RumourQueue()
    queue.add(BOB, Claim(0, Status.SUSPECT))
    queue.add(BOB, Claim(1, Status.ALIVE))
    assert queue.take(16, swarm_size=3) == (Rumour(BOB, Claim(1, Status.ALIVE)),)


DAVE = PeerId("dave")


def test_who_lives_is_known_as_soon_as_its_record_comes() -> None:
    beliefs = believing([])
    beliefs.note_strangers([Rumour(DAVE, Claim(0, Status.ALIVE)), Rumour(DAVE, Claim(2, Status.ALIVE))])
    assert DAVE not in beliefs.peers
    beliefs.know(frozenset({BOB, CAROL, DAVE}), 1.0)
    assert beliefs.peers[DAVE].claim == Claim(2, Status.ALIVE)
    assert Rumour(DAVE, Claim(2, Status.ALIVE)) in beliefs.rumours_to_ride(16), "others may not know either"


def test_nothing_is_held_against_a_stranger() -> None:
    beliefs = believing([])
    beliefs.note_strangers([Rumour(DAVE, Claim(3, Status.OFFLINE))])
    beliefs.know(frozenset({BOB, CAROL, DAVE}), 1.0)
    assert beliefs.peers[DAVE].status is Status.UNKNOWN


def test_of_strangers_without_end_the_last_are_noted() -> None:
    beliefs = believing([])
    made_up = [PeerId(f"peer {number}") for number in range(STRANGERS_MAX + 10)]
    beliefs.note_strangers(Rumour(peer, Claim(0, Status.ALIVE)) for peer in made_up)
    beliefs.know(frozenset(made_up), 1.0)
    alive = [peer for peer in made_up if beliefs.peers[peer].status is Status.ALIVE]
    assert alive == made_up[10:]
