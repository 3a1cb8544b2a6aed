"""What members that lie without end cannot do to an honest one: make it deaf, slow, or offline."""

from __future__ import annotations

from ledger.liveness_events import FailureReported, LinkLost, PeersKnown
from ledger.probe import Ack, Gossip, Ping
from ledger.rumour import Claim, Rumour
from p2p.peer import PeerId
from tests.ledger.detector_bench import ALIVE, BOB, CAROL, CONFIG, DAVE, ERIN, SUSPECT, Bench, sent

LIAR = DAVE
PEERS = [PeerId(f"peer{number:04}") for number in range(1000)]
LIES = 2 * CONFIG.news_burst


def test_who_opens_its_link_again_and_again_is_not_believed_more_for_it() -> None:
    bench = Bench(BOB, CAROL, LIAR)
    bench.handle(PeersKnown(frozenset([BOB, CAROL, LIAR, *PEERS])))
    pushed = 0
    for incarnation in range(10):
        bench.handle(LinkLost(LIAR))
        bench.link(LIAR)
        for start in range(0, 1000, 10):
            rumours = tuple(Rumour(peer, Claim(incarnation, SUSPECT)) for peer in PEERS[start : start + 10])
            told = sent(bench.receive(LIAR, Gossip(rumours)), Gossip)
            pushed += len(told[BOB].rumours) if BOB in told else 0
    assert 0 < pushed <= CONFIG.news_burst


def test_who_had_to_refute_more_than_we_pass_on_is_still_heard() -> None:
    bench = Bench(BOB, CAROL, LIAR)
    for incarnation in range(LIES):
        bench.receive(BOB, Ack(7, incarnation))
    bench.handle(FailureReported(BOB))
    assert bench.status(BOB) is SUSPECT
    effects = bench.receive(BOB, Ack(7, LIES + 1))
    assert bench.status(BOB) is ALIVE
    assert sent(effects, Gossip) == {}
    told = sent(bench.receive(CAROL, Ping(1, 0)), Ack)[CAROL].rumours
    assert Rumour(BOB, Claim(LIES + 1, ALIVE)) in told


def test_a_complaint_in_a_ping_is_taken_back_in_the_answer_however_often() -> None:
    bench = Bench(BOB, CAROL)
    for number in range(LIES):
        answer = sent(bench.receive(BOB, Ping(number, 0, Claim(number, SUSPECT))), Ack)[BOB]
        assert answer.incarnation == number + 1


def test_complaints_that_a_helper_carries_do_not_make_us_deaf_to_the_helper() -> None:
    bench = Bench(BOB, CAROL)
    for number in range(LIES):
        bench.receive(BOB, Ping(number, 0, Claim(number, SUSPECT)))
    bench.receive(BOB, Gossip((Rumour(ERIN, Claim(0, SUSPECT)),)))
    assert bench.status(ERIN) is SUSPECT


def test_complaints_without_end_do_not_make_us_take_ourselves_for_slow() -> None:
    bench = Bench(BOB, LIAR)
    for number in range(100):
        bench.receive(LIAR, Ping(number, 0, Claim(number, SUSPECT)))
    assert bench.detector.local_health.score == 1
    bench.wait(CONFIG.suspicion_min, BOB, LIAR)
    assert bench.detector.local_health.score == 0
    bench.receive(LIAR, Ping(7, 0, Claim(1000, SUSPECT)))
    assert bench.detector.local_health.score == 1
