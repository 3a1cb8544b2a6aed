"""What was missed is told when two nodes compare what they hold, and nothing is told twice."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.beliefs import Beliefs
from ledger.claims_digest import BUCKETS, DIGEST_SIZE, ClaimsDigest
from ledger.claims_exchange import ClaimsExchange
from ledger.liveness_config import LivenessConfig
from ledger.liveness_events import LinkLost, LinkOpened, PeersKnown, SendMessage
from ledger.probe import CLAIMS_MAX, FRAME_SIZE_MAX, Claims, Gossip, Message, Summary, to_frame
from ledger.rumour import INCARNATION_MAX, UNKNOWN, Claim, Rumour
from p2p.framing import encode_frame
from p2p.peer import PeerId
from tests.ledger.detector_bench import ALIVE, BOB, CAROL, CONFIG, DAVE, ME, OFFLINE, SUSPECT, Bench, sent

PEERS = [PeerId(f"peer{number:04}") for number in range(1000)]
claims = st.builds(Claim, st.integers(0, 3), st.sampled_from([ALIVE, SUSPECT, OFFLINE]))
held = st.dictionaries(st.sampled_from(PEERS[:40]), claims, max_size=40)


class Side:
    """One of two nodes that compare."""

    def __init__(self, name: str, holding: dict[PeerId, Claim]) -> None:
        self.beliefs = Beliefs(PeerId(name), LivenessConfig())
        self.beliefs.know(frozenset([*PEERS, PeerId("one"), PeerId("other")]), 0.0)
        self.beliefs.hear([Rumour(peer, claim) for peer, claim in holding.items()], 0.0)
        self.exchange = ClaimsExchange(self.beliefs, Random(1), LivenessConfig())

    def take_in(self, message: Message) -> list[Message]:
        match message:
            case Summary():
                return self.exchange.answer(message, 0.0)
            case Claims():
                self.beliefs.hear(message.claims, 0.0, is_missed=True)
        return []


def compare(one: Side, other: Side) -> list[Message]:
    """Let `one` ask, and return all that was said."""
    said: list[Message] = []
    question: Message = Summary(one.beliefs.digest.to_bytes())
    under_way = [(other, one, question)]
    while under_way:
        to, back, message = under_way.pop(0)
        said.append(message)
        under_way += [(back, to, answer) for answer in to.take_in(message)]
        assert len(said) < 100, "it must end"
    return said


def claimed(messages: list[Message]) -> int:
    return sum(len(message.claims) for message in messages if isinstance(message, Claims))


@given(held)
def test_the_digest_is_that_of_the_claims_whatever_was_held_before(holding: dict[PeerId, Claim]) -> None:
    changed, fresh = ClaimsDigest(), ClaimsDigest()
    for peer, claim in holding.items():
        changed.change(peer, UNKNOWN, Claim(9, ALIVE))
        changed.change(peer, Claim(9, ALIVE), claim)
        fresh.change(peer, UNKNOWN, claim)
    assert changed == fresh
    assert len(fresh.to_bytes()) == DIGEST_SIZE
    assert fresh.differing(changed.to_bytes()) == ()


@given(held, held)
def test_after_comparing_nobody_lacks_what_the_other_knew_first(
    first: dict[PeerId, Claim], second: dict[PeerId, Claim]
) -> None:
    one, other = Side("one", first), Side("other", second)
    said = compare(one, other)
    assert len(said) <= 4
    for side, holding in ((one, second), (other, first)):
        for peer in holding:
            assert side.beliefs.peers[peer].claim != UNKNOWN


def test_who_holds_the_same_says_nothing_more() -> None:
    holding = {peer: Claim(0, ALIVE) for peer in PEERS}
    one = Side("one", holding | {PeerId("other"): Claim(0, ALIVE)})
    other = Side("other", holding | {PeerId("one"): Claim(0, ALIVE)})
    assert len(compare(one, other)) == 1


def test_a_newcomer_learns_a_thousand_claims_in_one_answer_and_spreads_none() -> None:
    newcomer, other = Side("one", {}), Side("other", {peer: Claim(0, ALIVE) for peer in PEERS})
    said = compare(newcomer, other)
    assert claimed(said[1:]) >= 1000
    assert all(newcomer.beliefs.peers[peer].claim == Claim(0, ALIVE) for peer in PEERS)
    assert newcomer.beliefs.take_news() == []
    assert newcomer.beliefs.rumours_to_ride(16) == ()


def test_of_a_thousand_claims_only_those_in_buckets_that_differ_are_told() -> None:
    holding = {peer: Claim(0, ALIVE) for peer in PEERS}
    one, other = Side("one", holding), Side("other", holding)
    other.beliefs.learn(PEERS[3], Claim(1, ALIVE), 0.0)
    said = compare(one, other)
    assert one.beliefs.peers[PEERS[3]].claim == Claim(1, ALIVE)
    # Three buckets: that one, and those of the two themselves.
    assert claimed(said) <= 2 * 3 * 1.5 * len(PEERS) / BUCKETS


def test_what_was_missed_rides_on_and_is_not_pushed() -> None:
    side = Side("one", {PEERS[0]: Claim(0, ALIVE)})
    side.beliefs.hear([Rumour(PEERS[0], Claim(2, ALIVE))], 0.0, is_missed=True)
    assert side.beliefs.take_news() == []
    assert side.beliefs.rumours_to_ride(16) == (Rumour(PEERS[0], Claim(2, ALIVE)),)


def test_the_fullest_frame_of_claims_fits() -> None:
    fullest = tuple(Rumour(PeerId(f"{n:064}"), Claim(INCARNATION_MAX, OFFLINE)) for n in range(CLAIMS_MAX))
    encode_frame(to_frame(Claims(fullest), {}), FRAME_SIZE_MAX)


def test_however_often_it_is_asked_a_node_tells_a_bounded_number_of_claims() -> None:
    side = Side("one", {peer: Claim(0, ALIVE) for peer in PEERS})
    nothing = Summary(bytes(DIGEST_SIZE))
    told = sum(claimed(side.exchange.answer(nothing, second / 10)) for second in range(600))
    config = LivenessConfig()
    assert told <= config.claims_burst + 60 * config.claims_rate


def test_a_link_that_opens_is_followed_by_one_question_however_many_open() -> None:
    bench = Bench(BOB, CAROL, DAVE)
    effects = bench.wait(CONFIG.summary_spacing - 0.01, BOB, CAROL, DAVE)
    asked = [e for e in effects if isinstance(e, SendMessage) and isinstance(e.message, Summary)]
    assert [question.peer for question in asked] == [DAVE]


def test_one_neighbour_is_asked_every_ten_seconds_or_so() -> None:
    bench = Bench(BOB, CAROL)
    effects = bench.wait(1000, BOB, CAROL)
    asked = [e.peer for e in effects if isinstance(e, SendMessage) and isinstance(e.message, Summary)]
    assert 80 <= len(asked) <= 125
    assert set(asked) == {BOB, CAROL}


def test_what_was_said_of_strangers_is_asked_for_again_when_the_ledger_names_them() -> None:
    bench = Bench(BOB, known=[BOB])
    bench.wait(5, BOB)
    claims = Claims(tuple(Rumour(peer, Claim(0, ALIVE)) for peer in PEERS[:10]))
    assert bench.receive(BOB, claims) == []
    bench.handle(PeersKnown(frozenset([BOB, *PEERS])))
    assert BOB in sent(bench.wait(CONFIG.summary_spacing, BOB), Summary)
    bench.receive(BOB, claims)
    assert bench.status(PEERS[9]) is ALIVE


def test_whom_we_can_see_alive_we_do_not_suspect_because_somebody_was_cut_off() -> None:
    bench = Bench(BOB, CAROL)
    complaints = (Rumour(CAROL, Claim(0, OFFLINE)), Rumour(ME, Claim(0, OFFLINE)))
    effects = bench.receive(BOB, Claims(complaints))
    assert bench.status(CAROL) is ALIVE
    told = [
        e.message.rumours for e in effects if isinstance(e, SendMessage) and isinstance(e.message, Gossip)
    ]
    assert (Rumour(CAROL, Claim(0, OFFLINE)),) in told
    assert bench.detector.beliefs.incarnation == 1


@pytest.mark.parametrize(("before", "after"), [(Claim(0, ALIVE), SUSPECT), (None, OFFLINE)])
def test_whom_we_cannot_see_is_a_suspect_at_most_unless_we_know_nothing(
    before: Claim | None, after: object
) -> None:
    bench = Bench(BOB, CAROL)
    if before is not None:
        bench.receive(BOB, Gossip((Rumour(DAVE, before),)))
    bench.receive(BOB, Claims((Rumour(DAVE, Claim(0, OFFLINE)),)))
    assert bench.status(DAVE) is after


def test_without_neighbours_nobody_is_asked() -> None:
    bench = Bench(BOB)
    bench.handle(LinkLost(BOB))
    assert sent(bench.wait(60), Summary) == {}
    bench.handle(LinkOpened(BOB))
    assert BOB in sent(bench.wait(CONFIG.summary_spacing, BOB), Summary)
