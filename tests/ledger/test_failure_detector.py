"""What the failure detector decides, event by event."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ledger.liveness_events import (
    ByeSaid,
    DoubtRaised,
    FailureReported,
    LinkLost,
    LinkOpened,
    PeersKnown,
    SendMessage,
    StatusChanged,
    TimerFired,
)
from ledger.local_health import SCORE_MAX
from ledger.probe import Ack, Claims, Gossip, Nack, Ping, PingRequest, RelayedAck
from ledger.rumour import Claim, Rumour, Status
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
    riding,
    sent,
)


def test_a_peer_known_from_the_ledger_is_unknown_until_it_answers() -> None:
    bench = Bench()
    assert bench.status(BOB) is Status.UNKNOWN
    ping = sent(bench.handle(LinkOpened(BOB)), Ping)[BOB]
    assert bench.status(BOB) is Status.UNKNOWN
    effects = bench.receive(BOB, Ack(ping.sequence, 0))
    assert StatusChanged(BOB, ALIVE) in effects


def test_an_unknown_peer_that_stays_silent_is_never_gossiped_about() -> None:
    bench = Bench(CAROL)
    effects = bench.wait(30, CAROL)
    assert bench.status(BOB) is Status.UNKNOWN
    assert sent(effects, Gossip) == {}


def test_silence_is_followed_by_questions_through_others_and_then_by_suspicion() -> None:
    bench = Bench(BOB, CAROL, DAVE)
    effects = bench.wait(2.0, CAROL, DAVE)
    asked = [
        effect.peer
        for effect in effects
        if isinstance(effect, SendMessage)
        and isinstance(effect.message, PingRequest)
        and effect.message.target == BOB
    ]
    assert asked[:2] == [CAROL, DAVE]
    assert bench.status(BOB) is SUSPECT
    assert {bench.status(CAROL), bench.status(DAVE)} == {ALIVE}


def test_a_suspect_that_does_not_refute_is_offline_after_three_seconds() -> None:
    bench = Bench(BOB, CAROL)
    bench.handle(FailureReported(BOB))
    bench.wait(CONFIG.suspicion_min - 0.01, CAROL)
    assert bench.status(BOB) is SUSPECT
    effects = bench.wait(0.02, CAROL)
    assert StatusChanged(BOB, OFFLINE) in effects
    assert Rumour(BOB, Claim(0, OFFLINE)) in sent(effects, Gossip)[CAROL].rumours


def test_evidence_makes_a_suspect_at_once_and_tells_the_others() -> None:
    bench = Bench(BOB, CAROL)
    effects = bench.handle(FailureReported(BOB))
    assert StatusChanged(BOB, SUSPECT) in effects
    assert sent(effects, Gossip)[CAROL].rumours == (Rumour(BOB, Claim(0, SUSPECT)),)


def test_evidence_is_followed_by_a_probe_that_names_the_complaint() -> None:
    bench = Bench(BOB)
    ping = sent(bench.handle(FailureReported(BOB)), Ping)[BOB]
    assert ping.about_you == Claim(0, SUSPECT)
    bench.receive(BOB, Ack(ping.sequence, 1))
    assert bench.status(BOB) is ALIVE


def test_who_is_doubted_is_asked_at_once_and_not_blamed() -> None:
    bench = Bench(BOB, CAROL)
    effects = bench.handle(DoubtRaised(BOB))
    assert bench.status(BOB) is ALIVE
    assert list(sent(effects, Ping)) == [BOB]
    assert bench.handle(DoubtRaised(BOB)) == []
    bench.receive(BOB, Ack(sent(effects, Ping)[BOB].sequence, 0))
    assert bench.status(BOB) is ALIVE


def test_an_answer_without_a_higher_incarnation_refutes_nothing() -> None:
    bench = Bench(BOB)
    ping = sent(bench.handle(FailureReported(BOB)), Ping)[BOB]
    bench.receive(BOB, Ack(ping.sequence, 0))
    assert bench.status(BOB) is SUSPECT


def test_a_lost_link_is_a_question_to_others_and_no_verdict() -> None:
    bench = Bench(BOB, CAROL)
    effects = bench.handle(LinkLost(BOB))
    assert bench.status(BOB) is ALIVE
    request = sent(effects, PingRequest)[CAROL]
    bench.receive(CAROL, RelayedAck(request.sequence, BOB, 0))
    bench.wait(CONFIG.indirect_timeout, CAROL)
    assert bench.status(BOB) is ALIVE


def test_a_lost_link_that_nobody_can_be_asked_about_makes_a_suspect() -> None:
    bench = Bench(BOB)
    bench.handle(LinkLost(BOB))
    assert bench.status(BOB) is SUSPECT


def test_helpers_pass_our_complaint_on_to_whom_we_cannot_reach() -> None:
    bench = Bench(BOB, CAROL)
    bench.handle(LinkLost(BOB))
    request = sent(bench.handle(FailureReported(BOB)), PingRequest)[CAROL]
    assert (request.target, request.held_against) == (BOB, Claim(0, SUSPECT))
    bench.receive(CAROL, RelayedAck(request.sequence, BOB, 1))
    assert bench.status(BOB) is ALIVE


@pytest.mark.parametrize(("helper", "offset"), [(CAROL, 1), (DAVE, 0)])
def test_a_relayed_answer_counts_only_for_that_question_and_from_whom_we_asked(
    helper: PeerId, offset: int
) -> None:
    bench = Bench(BOB, CAROL)
    bench.handle(LinkLost(BOB))
    request = sent(bench.handle(FailureReported(BOB)), PingRequest)[CAROL]
    bench.link(DAVE)
    bench.receive(helper, RelayedAck(request.sequence + offset, BOB, 7))
    assert bench.status(BOB) is SUSPECT


def test_who_says_goodbye_is_offline_at_once_and_nobody_else_is_told() -> None:
    bench = Bench(BOB, CAROL)
    effects = bench.handle(ByeSaid(BOB))
    assert effects == [StatusChanged(BOB, OFFLINE)]
    assert bench.handle(LinkLost(BOB)) == []


def test_after_a_goodbye_nobody_is_told_any_more_that_the_peer_lives() -> None:
    bench = Bench(BOB, CAROL)
    bench.receive(BOB, Ack(99, 1))  # It took back what somebody said: that is told on.
    bench.handle(ByeSaid(BOB))
    bench.handle(LinkLost(BOB))
    told = {rumour for rumour in riding(bench.wait(2, CAROL)) if rumour.peer == BOB}
    assert told == {Rumour(BOB, Claim(1, OFFLINE))}


def test_who_comes_back_after_a_goodbye_is_alive_with_its_first_answer() -> None:
    bench = Bench(BOB)
    bench.handle(ByeSaid(BOB))
    bench.handle(LinkLost(BOB))
    ping = sent(bench.handle(LinkOpened(BOB)), Ping)[BOB]
    assert ping.about_you == Claim(0, OFFLINE)
    bench.receive(BOB, Ack(ping.sequence, 1))
    assert bench.status(BOB) is ALIVE


def test_what_is_said_against_us_is_taken_back_in_the_answer_and_told_to_all() -> None:
    bench = Bench(BOB, CAROL)
    effects = bench.receive(BOB, Ping(5, 0, about_you=Claim(3, OFFLINE)))
    assert sent(effects, Ack)[BOB].incarnation == 4
    assert sent(effects, Gossip)[CAROL].rumours == (Rumour(ME, Claim(4, ALIVE)),)


def test_an_old_complaint_about_us_is_not_answered_again() -> None:
    bench = Bench(BOB, CAROL)
    bench.receive(BOB, Ping(5, 0, about_you=Claim(3, OFFLINE)))
    assert sent(bench.receive(CAROL, Gossip((Rumour(ME, Claim(3, SUSPECT)),))), Gossip) == {}
    assert bench.detector.beliefs.incarnation == 4


def test_a_rumour_of_one_we_have_no_link_to_is_passed_on_once() -> None:
    bench = Bench(BOB, CAROL, DAVE)
    rumour = Rumour(ERIN, Claim(0, SUSPECT))
    told = sent(bench.receive(CAROL, Gossip((rumour,))), Gossip)
    assert told == {BOB: Gossip((rumour,)), DAVE: Gossip((rumour,))}
    assert bench.receive(DAVE, Gossip((rumour,))) == []


@pytest.mark.parametrize("status", [SUSPECT, OFFLINE])
def test_who_has_a_link_to_the_accused_tells_it_and_asks_before_believing_anything(status: Status) -> None:
    bench = Bench(BOB, CAROL, DAVE)
    rumour = Rumour(BOB, Claim(0, status))
    effects = bench.receive(CAROL, Gossip((rumour,)))
    assert sent(effects, Gossip) == {BOB: Gossip((rumour,))}
    assert set(sent(effects, Ping)) == {BOB}
    assert bench.status(BOB) is ALIVE
    # The question under way is not begun anew by the next complaint, or who complains without end shields it.
    assert sent(bench.receive(DAVE, Gossip((rumour,))), Ping) == {}
    effects = bench.wait(CONFIG.direct_timeout + CONFIG.indirect_timeout, CAROL, DAVE)
    assert StatusChanged(BOB, SUSPECT) in effects


def test_who_is_accused_before_its_first_answer_hears_of_it_at_once() -> None:
    bench = Bench(CAROL)
    bench.handle(LinkOpened(BOB))
    rumour = Rumour(BOB, Claim(3, OFFLINE))
    assert sent(bench.receive(CAROL, Claims((rumour,))), Gossip) == {BOB: Gossip((rumour,))}
    bench.receive(BOB, Ping(1, 4))
    assert bench.status(BOB) is ALIVE


@pytest.mark.parametrize("linked", [True, False])
def test_whoever_is_said_to_be_offline_has_the_time_of_a_suspect_to_refute(linked: bool) -> None:
    bench = Bench(CAROL, DAVE, *[BOB] * linked)
    bench.receive(CAROL, Gossip((Rumour(BOB, Claim(0, ALIVE)),)))
    bench.receive(CAROL, Gossip((Rumour(BOB, Claim(0, SUSPECT)),)))
    bench.receive(CAROL, Gossip((Rumour(BOB, Claim(0, OFFLINE)),)))
    bench.wait(CONFIG.suspicion_min - 0.1, CAROL, DAVE)
    assert bench.status(BOB) is SUSPECT
    bench.receive(DAVE, Gossip((Rumour(BOB, Claim(1, ALIVE)),)))
    assert bench.status(BOB) is ALIVE


def test_what_we_found_out_ourselves_is_told_to_all_neighbours() -> None:
    many = [PeerId(f"peer{number}") for number in range(20)]
    bench = Bench(BOB, *many)
    told = sent(bench.handle(FailureReported(BOB)), Gossip)
    assert set(told) == {BOB, *many}


def test_a_rumour_about_a_stranger_is_dropped() -> None:
    bench = Bench(BOB, CAROL)
    assert bench.receive(BOB, Gossip((Rumour(PeerId("mallory"), Claim(0, SUSPECT)),))) == []
    assert PeerId("mallory") not in bench.detector.beliefs.peers


def test_a_rumour_rides_along_a_bounded_number_of_times() -> None:
    bench = Bench(BOB, CAROL)
    bench.receive(BOB, Gossip((Rumour(DAVE, Claim(0, SUSPECT)),)))
    bench.wait(3.1, BOB, CAROL)
    pings = sent(bench.wait(60, BOB, CAROL), Ping)
    assert [ping.rumours for ping in pings.values()] == [(), ()]


def test_a_helper_carries_question_complaint_and_answer() -> None:
    bench = Bench(BOB, CAROL)
    ping = sent(bench.receive(BOB, PingRequest(41, CAROL, Claim(2, OFFLINE))), Ping)[CAROL]
    assert ping.about_you == Claim(2, OFFLINE)
    assert bench.status(CAROL) is ALIVE
    answer = sent(bench.receive(CAROL, Ack(ping.sequence, 3)), RelayedAck)[BOB]
    assert (answer.sequence, answer.target, answer.incarnation) == (41, CAROL, 3)


def test_a_helper_takes_an_answer_from_the_target_alone() -> None:
    bench = Bench(BOB, CAROL, DAVE)
    ping = sent(bench.receive(BOB, PingRequest(41, CAROL)), Ping)[CAROL]
    assert sent(bench.receive(DAVE, Ack(ping.sequence, 3)), RelayedAck) == {}


def test_a_helper_that_hears_nothing_says_so_in_time() -> None:
    bench = Bench(BOB, CAROL)
    bench.receive(BOB, PingRequest(41, CAROL))
    assert sent(bench.wait(CONFIG.relay_timeout), Nack)[BOB].sequence == 41


def test_a_helper_without_a_link_to_the_target_says_so_at_once() -> None:
    bench = Bench(BOB)
    assert sent(bench.receive(BOB, PingRequest(41, CAROL)), Nack)[BOB].sequence == 41


def test_a_helper_carries_a_bounded_number_of_questions_in_all() -> None:
    askers = [f"asker-{number:02}" for number in range(CONFIG.relays_max // CONFIG.relays_per_asker_max + 1)]
    bench = Bench(CAROL, *map(PeerId, askers))
    requests = [(PeerId(asker), number) for asker in askers for number in range(CONFIG.relays_per_asker_max)]
    pings = [sent(bench.receive(asker, PingRequest(number, CAROL)), Ping) for asker, number in requests]
    assert sum(map(len, pings)) == CONFIG.relays_max


@pytest.mark.parametrize(("nacking", "score"), [((CAROL, DAVE), 0), ((CAROL,), 1), ((), 2)])
def test_helpers_count_against_us_only_if_they_stay_silent(nacking: tuple[PeerId, ...], score: int) -> None:
    bench = Bench(BOB, CAROL, DAVE)
    while not (requests := sent(bench.wait(0.05, CAROL, DAVE), PingRequest)):
        assert bench.now < 110
    for helper in nacking:
        bench.receive(helper, Nack(requests[helper].sequence))
    bench.wait(CONFIG.indirect_timeout)
    assert bench.status(BOB) is SUSPECT
    assert bench.detector.local_health.score == score


def test_to_be_called_slow_is_a_sign_of_being_slow_and_answers_are_a_sign_of_recovery() -> None:
    bench = Bench(BOB)
    bench.receive(BOB, Ping(5, 0, about_you=Claim(0, SUSPECT)))
    assert bench.detector.local_health.score == 1
    bench.wait(5, BOB)
    assert bench.detector.local_health.score == 0


def test_who_is_called_slow_again_and_again_recovers_all_the_same() -> None:
    bench = Bench(BOB, CAROL)
    bench.detector.local_health.worsen(SCORE_MAX)
    for sequence in range(1, 100):
        claim = Claim(bench.detector.beliefs.incarnation, SUSPECT)
        bench.receive(BOB, Ping(sequence, 0, about_you=claim))
        bench.wait(1.0, BOB, CAROL)
    assert bench.detector.local_health.score <= 1


def test_who_tells_much_does_not_make_us_silent_about_what_we_find() -> None:
    bench = Bench(BOB, CAROL, DAVE, ERIN)
    for number in range(1, 400):
        bench.receive(CAROL, Ping(number, number))
    assert not sent(bench.receive(CAROL, Ping(400, 400)), Gossip), "it may still tell"
    assert set(sent(bench.handle(FailureReported(BOB)), Gossip)) == {BOB, CAROL, DAVE, ERIN}


def test_who_says_again_and_again_that_we_are_not_well_does_not_make_us_silent_about_others() -> None:
    bench = Bench(BOB, CAROL, DAVE, ERIN)
    answers = [
        sent(bench.receive(CAROL, Gossip((Rumour(ME, Claim(number, SUSPECT)),))), Gossip)
        for number in range(400)
    ]
    assert answers[0]
    assert not answers[-1], "it may still make us answer aloud"
    assert set(sent(bench.handle(FailureReported(BOB)), Gossip)) == {BOB, CAROL, DAVE, ERIN}


def test_a_slow_node_waits_longer_before_it_blames() -> None:
    well, slow = Bench(BOB), Bench(BOB)
    slow.detector.local_health.worsen(SCORE_MAX)
    well.wait(1.4)
    slow.wait(1.4)
    assert (well.status(BOB), slow.status(BOB)) == (SUSPECT, ALIVE)


def test_a_pause_of_our_own_blames_nobody() -> None:
    bench = Bench(BOB, CAROL)
    bench.handle(FailureReported(CAROL))
    bench.handle(TimerFired())
    bench.now += 3600
    changes = [effect for effect in bench.handle(TimerFired()) if isinstance(effect, StatusChanged)]
    assert changes == []
    assert (bench.status(BOB), bench.status(CAROL)) == (ALIVE, SUSPECT)
    bench.wait(CONFIG.suspicion_min + CONFIG.direct_timeout, BOB)
    assert bench.status(CAROL) is OFFLINE


def test_a_pause_of_our_own_is_forgiven_once_however_much_lay_unread() -> None:
    bench = Bench(BOB, CAROL)
    bench.handle(FailureReported(CAROL))
    bench.now += 3600
    for sequence in range(10):
        bench.receive(BOB, Ping(sequence, 0))
    assert bench.detector.local_health.score == 1
    bench.wait(CONFIG.suspicion_min + CONFIG.direct_timeout, BOB)
    assert bench.status(CAROL) is OFFLINE


@pytest.mark.parametrize("lateness", [0.11, 0.3, 1.0])
def test_a_machine_whose_timers_are_all_late_still_finds_out_who_is_dead(lateness: float) -> None:
    bench = Bench(BOB, CAROL)
    begun = bench.now
    while bench.status(BOB) is not OFFLINE and bench.now < begun + 60:
        bench.now = bench.detector.wake_at + lateness
        for peer, ping in sent(bench.handle(TimerFired()), Ping).items():
            if peer == CAROL:
                bench.receive(CAROL, Ack(ping.sequence, 0))
    assert bench.status(BOB) is OFFLINE
    assert bench.status(CAROL) is ALIVE


def test_what_a_node_believes_while_cut_off_is_not_spread_later() -> None:
    bench = Bench(BOB, CAROL)
    bench.handle(LinkLost(BOB))
    bench.handle(LinkLost(CAROL))
    bench.wait(10)
    assert (bench.status(BOB), bench.status(CAROL)) == (OFFLINE, OFFLINE)
    ping = sent(bench.handle(LinkOpened(BOB)), Ping)[BOB]
    assert ping.rumours == ()


def test_who_left_the_ledger_and_has_no_link_is_forgotten() -> None:
    bench = Bench(BOB, CAROL)
    bench.handle(FailureReported(BOB))
    bench.handle(PeersKnown(frozenset()))
    assert set(bench.detector.beliefs.peers) == {BOB, CAROL}
    bench.handle(LinkLost(BOB))
    assert set(bench.detector.beliefs.peers) == {CAROL}
    bench.wait(10, CAROL)


def test_the_lost_do_not_slow_down_the_watch_over_the_living() -> None:
    bench = Bench(BOB)
    old = frozenset(PeerId(f"laptop{number}") for number in range(100))
    bench.handle(PeersKnown(old | {BOB}))
    asked_at = [bench.now for _ in range(40) if BOB in sent(bench.wait(CONFIG.probe_interval, BOB), Ping)]
    assert max(b - a for a, b in pairwise(asked_at)) <= 4 * CONFIG.probe_interval


def test_the_round_trip_is_measured_and_smoothed() -> None:
    bench = Bench()
    ping = sent(bench.handle(LinkOpened(BOB)), Ping)[BOB]
    bench.now += 0.008
    bench.receive(BOB, Ack(ping.sequence, 0))
    health = bench.detector.beliefs.peers[BOB]
    assert health.round_trip == pytest.approx(0.008)
    ping = sent(bench.handle(LinkOpened(BOB)), Ping)[BOB]
    bench.now += 0.016
    bench.receive(BOB, Ack(ping.sequence, 0))
    assert health.round_trip == pytest.approx(0.009)


def test_a_silent_peer_is_asked_again_while_others_ask_it() -> None:
    bench = Bench(BOB, CAROL)
    first = sent(bench.handle(LinkOpened(BOB)), Ping)[BOB]
    again = bench.wait(CONFIG.direct_timeout, CAROL)
    assert sent(again, PingRequest)[CAROL].target == BOB
    assert sent(again, Ping)[BOB].sequence == first.sequence


def test_a_late_answer_to_an_earlier_try_counts_but_measures_nothing() -> None:
    bench = Bench(BOB, CAROL)
    before = bench.detector.beliefs.peers[BOB].round_trip
    ping = sent(bench.handle(LinkOpened(BOB)), Ping)[BOB]
    bench.wait(CONFIG.direct_timeout + 0.1, CAROL)
    bench.receive(BOB, Ack(ping.sequence, 0))
    bench.wait(CONFIG.indirect_timeout, CAROL)
    assert bench.status(BOB) is ALIVE
    assert bench.detector.beliefs.peers[BOB].round_trip == before


def test_a_helper_without_a_link_does_not_say_that_it_asked() -> None:
    bench = Bench(BOB, DAVE)
    assert not sent(bench.receive(BOB, PingRequest(41, CAROL)), Nack)[BOB].has_asked
    bench.receive(BOB, PingRequest(42, DAVE))
    assert sent(bench.wait(CONFIG.relay_timeout), Nack)[BOB].has_asked


def test_a_helper_that_asked_in_vain_asks_on_its_own_account() -> None:
    bench = Bench(BOB, CAROL)
    bench.wait(5, BOB, CAROL)
    bench.receive(BOB, PingRequest(41, CAROL))
    bench.wait(CONFIG.relay_timeout + CONFIG.direct_timeout + CONFIG.indirect_timeout + 0.1, BOB)
    assert bench.status(CAROL) is SUSPECT


@pytest.mark.parametrize("pause", [1.0, 60.0, 1e7])
def test_connections_that_others_closed_while_we_slept_are_no_evidence(pause: float) -> None:
    bench = Bench(BOB, CAROL, DAVE)
    bench.now += pause
    for event in (
        LinkLost(BOB),
        FailureReported(BOB),
        FailureReported(CAROL),
        LinkLost(CAROL),
        LinkLost(DAVE),
    ):
        bench.handle(event)
    bench.wait(min(pause, CONFIG.wake_grace_max) / 2)
    assert [bench.status(peer) for peer in (BOB, CAROL, DAVE)] == [ALIVE, ALIVE, ALIVE]


def test_long_after_a_pause_evidence_counts_again() -> None:
    bench = Bench(BOB, CAROL)
    bench.now += 3600
    bench.receive(BOB, Ping(1, 0))
    bench.wait(CONFIG.wake_grace_max, BOB, CAROL)
    bench.handle(FailureReported(BOB))
    assert bench.status(BOB) is SUSPECT
