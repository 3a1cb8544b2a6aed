"""What a member can make others send, keep and pass on by asking is bounded, and delays nobody else.

The bounds are those of one link: what a node owes merges, so it is at most one mark for each entry there
is and what the session says besides; and what it answers comes out of an allowance.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import msgpack
import pytest

from ledger.entry import Entry, sign_entry
from ledger.spread import MessageReceived, SendDue, SpreadConfig
from ledger.state import BUCKETS, LedgerLimits, bucket_of
from ledger.sync import WANTED_MAX
from ledger.sync_messages import (
    FRAME_SIZE_MAX,
    Buckets,
    Held,
    Holdings,
    Message,
    News,
    Owners,
    Root,
    Wanted,
    encode_message,
)
from ledger.version import Version
from p2p.peer import PeerId, peer_id_of
from tests.ledger.honest_swarm import ALICE, BOB, HONEST, LIAR, HonestSwarm

KEYS = [f"model/{number:0>140}" for number in range(100)]
"""As many and as long as an owner's own share of its room allows: 19 KB of holdings."""
TIMES = 1000
CONFIG = SpreadConfig()

Question = Callable[[int], Message]
"""The liar's question number so and so: no two are alike where that could matter."""


def digest(number: int) -> bytes:
    return number.to_bytes(16, "big")


QUESTIONS: dict[str, Question] = {
    "roots": lambda number: Root(digest(number)),
    "digests": lambda number: Buckets((digest(number),) * BUCKETS),
    "no owners": lambda _: Owners(tuple(range(BUCKETS)), {}),
    "owners": lambda number: Owners((bucket_of(ALICE.peer),), {ALICE.peer: digest(number)}),
    "holdings": lambda _: Holdings({ALICE.peer: ()}),
    "wanted": lambda _: Wanted({ALICE.peer: tuple(KEYS)}),
}


@pytest.fixture
def swarm() -> HonestSwarm:
    """In which Alice has much to say, and all know it."""
    swarm = HonestSwarm()
    for key in KEYS:
        swarm.nodes[ALICE.peer].replica.put(key, b"\x80")
    swarm.run(10.0)
    assert swarm.honest_are_equal
    return swarm


@pytest.mark.parametrize("question", QUESTIONS)
def test_who_asks_without_end_is_answered_at_its_allowance(swarm: HonestSwarm, question: str) -> None:
    questions = [QUESTIONS[question](number) for number in range(TIMES)]
    swarm.bytes_to_liar = 0
    swarm.lie(*questions, to=[BOB])
    at_once = CONFIG.answer_burst + FRAME_SIZE_MAX
    assert swarm.bytes_to_liar <= at_once
    seconds = 10.0

    def ask_on() -> None:
        swarm.lie(*questions[:10], to=[BOB])

    swarm.run(seconds, meanwhile=ask_on)
    # Whatever else goes to the liar in that time is a root now and then.
    assert swarm.bytes_to_liar <= at_once + (seconds + 2) * CONFIG.answer_rate + 64 * TIMES


def test_who_asks_without_end_is_counted_each_time_and_complained_of_once(swarm: HonestSwarm) -> None:
    bob = swarm.nodes[BOB.peer]
    swarm.lie(*(QUESTIONS["wanted"](number) for number in range(TIMES)), to=[BOB])
    assert bob.replica.refusals["asks_too_much"] > 10
    assert bob.complaints == {"asks_too_much": 1}


@pytest.mark.parametrize("question", QUESTIONS)
def test_who_asks_without_end_and_reads_nothing_is_owed_no_more_than_there_is(
    swarm: HonestSwarm, question: str
) -> None:
    bob = swarm.nodes[BOB.peer].spread
    before = bob.debts
    session = bob._links[LIAR.peer].session
    for number in range(TIMES):
        session.handle(QUESTIONS[question](number))
    entries = sum(1 for _ in swarm.nodes[BOB.peer].replica.state.entries())
    assert bob.debts - before <= entries + BUCKETS + 2 * len(HONEST)


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_honest_rest_hears_of_each_other_meanwhile(swarm: HonestSwarm, question: str) -> None:
    asked = 0

    def ask() -> None:
        nonlocal asked
        asked += 1
        swarm.lie(*(QUESTIONS[question](asked * 20 + each) for each in range(20)))

    swarm.lie(*(QUESTIONS[question](number) for number in range(TIMES)), to=[ALICE, BOB])
    swarm.put(BOB, "node", b"\x81\xa1x\x01")
    assert swarm.honest_are_equal, "a push waits for nobody"
    swarm.nodes[BOB.peer].replica.put("node", b"\x81\xa1x\x02")
    swarm.run(5.0, meanwhile=ask)
    assert swarm.honest_are_equal, "what no push told, rounds did"
    assert not any(node.cut_off for node in swarm.nodes.values())


def invented(number: int) -> PeerId:
    return peer_id_of(number.to_bytes(2, "big") * 16)


def claims() -> list[Message]:
    """Three thousand owners that do not exist, and thirty thousand keys of theirs."""
    said: list[Message] = []
    for start in range(0, 3000, 100):
        owners = [invented(number) for number in range(start, start + 100)]
        said.append(Owners(tuple(range(BUCKETS)), {owner: digest(start) for owner in owners}))
        held = tuple(Held(f"{start}/{key}", Version(7, key), digest(key)) for key in range(10))
        said.append(Holdings(dict.fromkeys(owners, held)))
    return said


def test_what_a_liar_says_it_holds_is_kept_up_to_a_bound() -> None:
    limits = LedgerLimits(owners_max=1000)
    session = HonestSwarm(limits).nodes[BOB.peer].spread._links[LIAR.peer].session
    said = claims()
    held = []
    tracemalloc.start()
    try:
        for _ in range(3):
            for message in said:
                session.handle(message)
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # Owners to list, keys to ask for, and of owners how they differed.
    bound = limits.owners_max + WANTED_MAX + 2 * limits.owners_max + BUCKETS
    assert WANTED_MAX < session.debts <= bound
    assert held[0] < bound * 512, "a mark is a place in a table, an id and a digest; and ids are remembered"
    assert held[2] - held[1] < 64 * 1024, "the same again is no more"


def test_what_we_ask_a_liar_for_is_no_more_than_it_said() -> None:
    swarm = HonestSwarm()
    said = claims()
    swarm.bytes_to_liar = 0
    swarm.lie(*said, to=[BOB])
    heard = sum(len(msgpack.packb(encode_message(message))) for message in said)
    assert 0 < swarm.bytes_to_liar < heard


def flood(count: int, keys: int) -> list[Entry]:
    """So many true writes of the liar, one after the other, of so many keys."""
    return [sign_entry(LIAR, f"k{number % keys}", Version(1, number + 1), b"\x80") for number in range(count)]


def test_a_flood_of_news_is_passed_on_up_to_a_bound_and_known_to_all_all_the_same() -> None:
    swarm = HonestSwarm()
    bob = swarm.nodes[BOB.peer].spread
    news = flood(bob.config.news_burst + 500, keys=20)
    passed_on = 0
    for entry in news:
        effects = bob.handle(MessageReceived(LIAR.peer, News((entry.encoded,))), swarm.now)
        passed_on += any(isinstance(each, SendDue) and each.peer != LIAR.peer for each in effects)
    assert passed_on == bob.config.news_burst
    swarm.run(10.0)
    newest = {entry.key: entry for entry in news}
    for node in swarm.nodes.values():
        assert {entry.key: entry for entry in node.replica.state.entries_of(LIAR.peer)} == newest
    assert swarm.honest_are_equal


def test_a_flood_of_news_is_owed_to_a_slow_peer_once_per_key() -> None:
    swarm = HonestSwarm()
    bob = swarm.nodes[BOB.peer].spread
    before = bob.debts
    for entry in flood(900, keys=20):
        bob.handle(MessageReceived(LIAR.peer, News((entry.encoded,))), swarm.now)
    assert bob.debts - before <= 20 * bob.config.push_peers


def test_what_others_write_goes_out_at_once_in_a_flood() -> None:
    swarm = HonestSwarm()
    swarm.tell(*flood(SpreadConfig().news_burst + 200, keys=20), as_news=True, to=[BOB])
    swarm.put(BOB, "node", b"\x80")
    swarm.put(ALICE, "node", b"\x80")
    assert swarm.honest_are_equal


def test_news_of_a_liar_is_passed_on_again_after_a_while() -> None:
    swarm = HonestSwarm()
    swarm.tell(*flood(SpreadConfig().news_burst + 200, keys=20), as_news=True, to=[BOB])
    swarm.now += 1.0
    swarm.tell(sign_entry(LIAR, "leave", Version(2, 1), b"\x80"), as_news=True, to=[BOB])
    assert all(node.replica.state.get(LIAR.peer, "leave") for node in swarm.nodes.values())
