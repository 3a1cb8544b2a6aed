"""What one neighbour that lies can make a node believe, send and keep is bounded."""

from __future__ import annotations

import pytest

from ledger.liveness_events import FailureReported, LinkOpened, PeersKnown, SendMessage
from ledger.probe import Ack, Claims, Gossip, Nack, Ping, PingRequest, RelayedAck, Summary
from ledger.rumour import INCARNATION_MAX, JUMP_MAX, Claim, Rumour, Status
from p2p.allowance import Allowance
from p2p.peer import PeerId
from tests.ledger.detector_bench import (
    ALIVE,
    BOB,
    CAROL,
    CONFIG,
    DAVE,
    ERIN,
    ME,
    OFFLINE,
    SUSPECT,
    Bench,
    sent,
)

LIAR = DAVE
PEERS = [PeerId(f"peer{number:04}") for number in range(1000)]


@pytest.mark.parametrize("status", [ALIVE, SUSPECT, OFFLINE])
@pytest.mark.parametrize("incarnation", [JUMP_MAX + 1, INCARNATION_MAX])
def test_an_incarnation_far_ahead_of_what_we_hold_is_not_believed(incarnation: int, status: Status) -> None:
    bench = Bench(BOB, LIAR)
    lie = (Rumour(BOB, Claim(incarnation, status)),)
    assert bench.receive(LIAR, Gossip(lie)) == []
    assert bench.receive(LIAR, Claims(lie)) == []
    assert bench.detector.beliefs.peers[BOB].claim == Claim(0, ALIVE)


@pytest.mark.parametrize("claim", [Claim(JUMP_MAX + 1, SUSPECT), Claim(INCARNATION_MAX, OFFLINE)])
def test_an_absurd_complaint_about_ourselves_is_not_taken_back(claim: Claim) -> None:
    bench = Bench(BOB, LIAR)
    effects = bench.receive(LIAR, Ping(1, 0, claim)) + bench.receive(LIAR, Gossip((Rumour(ME, claim),)))
    assert sent(effects, Gossip) == {}
    assert bench.detector.beliefs.incarnation == 0


def test_the_largest_lie_that_is_believed_can_be_refuted() -> None:
    bench = Bench(BOB, LIAR)
    bench.handle(FailureReported(BOB))
    bench.receive(LIAR, Gossip((Rumour(BOB, Claim(JUMP_MAX, OFFLINE)),)))
    assert bench.detector.beliefs.peers[BOB].claim == Claim(JUMP_MAX, SUSPECT)
    bench.receive(BOB, Ping(1, JUMP_MAX + 1))
    assert bench.status(BOB) is ALIVE


def test_a_peer_puts_right_what_a_liar_told_a_newcomer_of_it() -> None:
    bench = Bench(LIAR)
    bench.receive(LIAR, Gossip((Rumour(BOB, Claim(2**59, OFFLINE)),)))
    assert bench.status(BOB) is OFFLINE
    ping = sent(bench.handle(LinkOpened(BOB)), Ping)[BOB]
    bench.receive(BOB, Ack(ping.sequence, 3))
    assert bench.detector.beliefs.peers[BOB].claim == Claim(3, ALIVE)


def test_a_flood_of_rumours_is_believed_and_passed_on_up_to_a_bound() -> None:
    bench = Bench(BOB, CAROL, LIAR)
    bench.handle(PeersKnown(frozenset([BOB, CAROL, LIAR, *PEERS])))
    pushed = 0
    for incarnation in range(20):
        for start in range(0, 1000, 10):
            rumours = tuple(Rumour(peer, Claim(incarnation, SUSPECT)) for peer in PEERS[start : start + 10])
            told = sent(bench.receive(LIAR, Gossip(rumours)), Gossip)
            pushed += len(told[BOB].rumours) if BOB in told else 0
    assert 0 < pushed <= CONFIG.news_burst


def test_who_raises_its_own_incarnation_without_end_is_heard_up_to_a_bound() -> None:
    bench = Bench(BOB, CAROL, LIAR)
    pushes = [sent(bench.receive(LIAR, Ack(7, number)), Gossip) for number in range(10_000)]
    assert sum(BOB in push for push in pushes) <= CONFIG.news_burst


def test_what_was_not_believed_for_want_of_credit_is_believed_later() -> None:
    bench = Bench(BOB, LIAR)
    for number in range(10_000):
        bench.receive(LIAR, Ack(7, number))
    rumour = Rumour(ERIN, Claim(0, SUSPECT))
    bench.receive(LIAR, Gossip((rumour,)))
    assert bench.status(ERIN) is not SUSPECT
    bench.wait(1.0, BOB, LIAR)
    bench.receive(LIAR, Gossip((rumour,)))
    assert bench.status(ERIN) is SUSPECT


def test_an_answer_never_asked_for_is_no_sign_of_life() -> None:
    bench = Bench(BOB, CAROL, LIAR)
    bench.handle(FailureReported(BOB))
    for sequence in range(100):
        bench.receive(LIAR, RelayedAck(sequence, BOB, 7))
    assert bench.status(BOB) is SUSPECT
    assert bench.detector.local_health.score == 0


def test_questions_without_end_are_carried_up_to_a_bound_and_the_rest_is_said_to_be_not_asked() -> None:
    bench = Bench(BOB, CAROL, LIAR)
    answers = [bench.receive(LIAR, PingRequest(number, BOB)) for number in range(1000)]
    carried = sum(BOB in sent(effects, Ping) for effects in answers)
    refused = [nack for effects in answers for nack in sent(effects, Nack).values()]
    assert carried == CONFIG.relays_per_asker_max
    assert not any(nack.has_asked for nack in refused)
    # And there is room for somebody else's.
    assert BOB in sent(bench.receive(CAROL, PingRequest(1, BOB)), Ping)


def test_summaries_without_end_cost_a_bounded_number_of_claims() -> None:
    bench = Bench(BOB, LIAR)
    digest = bytes(len(bench.detector.beliefs.digest.to_bytes()))
    effects = [effect for _ in range(10_000) for effect in bench.receive(LIAR, Summary(digest))]
    claims = [
        e.message.claims for e in effects if isinstance(e, SendMessage) and isinstance(e.message, Claims)
    ]
    assert sum(map(len, claims)) <= CONFIG.claims_burst


def test_an_allowance_is_spent_and_comes_back() -> None:
    allowance = Allowance(burst=10, rate=2.0)
    assert allowance.take(8, now=100.0) == 8
    assert allowance.take(8, now=100.0) == 2
    assert allowance.take(8, now=100.4) == 0
    assert allowance.take(8, now=102.0) == 4
    assert allowance.take(80, now=1000.0) == 10
