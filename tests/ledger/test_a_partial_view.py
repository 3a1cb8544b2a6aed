"""What the failure detector decides where nobody is linked to everybody."""

from __future__ import annotations

import pytest

from ledger.liveness_events import (
    ByeSaid,
    FailureReported,
    LinkLost,
    LinkOpened,
    SendMessage,
    StatusChanged,
)
from ledger.probe import CLAIMS_MAX, Ack, Claims, Gossip, Nack, Ping, PingRequest
from ledger.rumour import Claim, Rumour, Status
from p2p.peer import PeerId
from tests.ledger.detector_bench import ALIVE, CONFIG, OFFLINE, SUSPECT, Bench, riding, sent

PEERS = [PeerId(f"peer{number:03}") for number in range(100)]
NEIGHBOURS, FAR = PEERS[:8], PEERS[8:]
TARGET, HELPERS = NEIGHBOURS[0], NEIGHBOURS[1:]
UNKNOWN = Status.UNKNOWN


def partial_view() -> Bench:
    """Eight neighbours, and a hundred that are alive."""
    bench = Bench(*NEIGHBOURS, known=PEERS)
    claims = [Rumour(peer, Claim(0, ALIVE)) for peer in FAR]
    for start in range(0, len(claims), CLAIMS_MAX):
        bench.receive(HELPERS[0], Claims(tuple(claims[start : start + CLAIMS_MAX])))
    assert bench.detector.beliefs.is_view_partial
    return bench


def pings_to(bench: Bench, target: PeerId, duration: float) -> int:
    effects = bench.wait(duration, *HELPERS)
    return sum(
        isinstance(effect, SendMessage) and effect.peer == target and isinstance(effect.message, Ping)
        for effect in effects
    )


def test_only_neighbours_are_asked() -> None:
    bench = partial_view()
    effects = bench.wait(60, *NEIGHBOURS)
    assert set(sent(effects, Ping)) == set(NEIGHBOURS)
    assert sent(effects, PingRequest) == {}


@pytest.mark.parametrize("has_asked", [False, True])
def test_no_helper_makes_us_judge_a_peer_without_a_link(*, has_asked: bool) -> None:
    bench = partial_view()
    asked = sent(bench.handle(LinkLost(TARGET)), PingRequest)
    assert {request.target for request in asked.values()} == {TARGET}
    for helper, request in asked.items():
        bench.receive(helper, Nack(request.sequence, has_asked=has_asked))
    bench.wait(60, *HELPERS)
    assert bench.status(TARGET) is ALIVE


def test_evidence_counts_without_a_link_too() -> None:
    bench = partial_view()
    bench.handle(LinkLost(TARGET))
    assert StatusChanged(TARGET, SUSPECT) in bench.handle(FailureReported(TARGET))


def test_who_hears_from_nobody_forgets_whom_it_never_had_a_link_to_and_blames_none() -> None:
    bench = partial_view()
    for peer in NEIGHBOURS:
        bench.handle(FailureReported(peer))
        bench.handle(LinkLost(peer))
    bench.wait(600)
    assert {bench.status(peer) for peer in NEIGHBOURS} == {OFFLINE}
    assert {bench.status(peer) for peer in FAR} == {UNKNOWN}


def test_a_neighbour_gets_a_third_try_unless_a_helper_heard_nothing_either() -> None:
    tries = CONFIG.direct_timeout + CONFIG.indirect_timeout
    alone, confirmed = partial_view(), partial_view()
    for bench, has_asked in ((alone, False), (confirmed, True)):
        bench.handle(LinkOpened(TARGET))
        for helper, request in sent(bench.wait(CONFIG.direct_timeout, *HELPERS), PingRequest).items():
            bench.receive(helper, Nack(request.sequence, has_asked=has_asked))
        bench.wait(tries - CONFIG.direct_timeout + 0.01, *HELPERS)
    assert (alone.status(TARGET), confirmed.status(TARGET)) == (ALIVE, SUSPECT)
    alone.wait(CONFIG.direct_timeout, *HELPERS)
    assert alone.status(TARGET) is SUSPECT


def test_an_answer_to_the_third_try_saves_a_peer() -> None:
    bench = partial_view()
    ping = sent(bench.handle(LinkOpened(TARGET)), Ping)[TARGET]
    assert pings_to(bench, TARGET, CONFIG.direct_timeout + CONFIG.indirect_timeout + 0.01) == 2
    bench.receive(TARGET, Ack(ping.sequence, 0))
    bench.wait(CONFIG.direct_timeout, *HELPERS)
    assert bench.status(TARGET) is ALIVE


def test_a_newcomer_rides_and_is_not_pushed() -> None:
    bench = partial_view()
    newcomer = PeerId("zoe")
    ping = sent(bench.handle(LinkOpened(newcomer)), Ping)[newcomer]
    effects = bench.receive(newcomer, Ack(ping.sequence, 0))
    assert sent(effects, Gossip) == {}
    assert Rumour(newcomer, Claim(0, ALIVE)) in riding(bench.wait(30, *NEIGHBOURS, newcomer))


def test_a_goodbye_rides_to_those_who_are_no_neighbours() -> None:
    bench = partial_view()
    bench.handle(ByeSaid(TARGET))
    bench.handle(LinkLost(TARGET))
    assert Rumour(TARGET, Claim(0, OFFLINE)) in riding(bench.wait(3, *HELPERS))
