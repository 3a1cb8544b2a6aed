"""The book dials who is missing, near before far, ever more slowly, and for ever."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from math import inf
from random import Random
from types import FrameType
from typing import Any

import pytest

from p2p.address_book import AddressBook, AddressBookConfig
from p2p.known_peer import Origin, distance_of
from p2p.peer import PeerAddress, PeerId
from tests.p2p.people import ALICE, BOB, CAROL, identity

CONFIG = AddressBookConfig()
LAN, WAN, LOOPBACK = "/ip4/192.168.1.7/tcp/4747", "/ip4/203.0.114.9/tcp/4747", "/ip4/127.0.0.1/tcp/4747"


def book_of(me: PeerId = ALICE.peer_id, config: AddressBookConfig = CONFIG) -> AddressBook:
    return AddressBook(me, config, Random(7))


def at(multiaddr: str, peer: PeerId = BOB.peer_id) -> PeerAddress:
    return PeerAddress(peer, multiaddr)


def dial_times(book: AddressBook, until: float, start: float = 0.0) -> list[tuple[float, PeerAddress]]:
    """Every dial up to `until`, each failing at once."""
    now, dials = start, []
    while now <= until:
        for address in book.next_dials(now):
            dials.append((now, address))
            book.dial_ended(address, is_connected=False, now=now)
        later = book.next_wake()
        assert later >= now
        now = later
    return dials


def member_for(book: AddressBook, peer: PeerId, since: float, until: float) -> None:
    book.connected(peer)
    book.admitted(peer, since)
    book.disconnected(peer, until)


def test_a_bootstrap_address_is_dialled_at_once() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.BOOTSTRAP, 0.0)
    assert book.next_wake() == 0.0
    assert book.next_dials(0.0) == [at(LAN)]


def test_a_peer_is_not_dialled_twice_at_once() -> None:
    book = book_of()
    book.add([at(LAN), at(WAN)], Origin.BOOTSTRAP, 0.0)
    assert len(book.next_dials(0.0)) == 1
    assert book.next_dials(0.0) == []
    assert book.next_wake() == inf


def test_near_places_come_before_far_ones_and_loopback_last() -> None:
    book = book_of()
    book.add([at(LOOPBACK), at(WAN), at(LAN)], Origin.BOOTSTRAP, 0.0)
    assert [address.multiaddr for _, address in dial_times(book, 0.0)] == [LAN, WAN, LOOPBACK]


@pytest.mark.parametrize(
    ("multiaddr", "distance"),
    [
        (LAN, 0),
        ("/ip6/fd00::1/tcp/1", 0),
        (WAN, 1),
        ("/dns4/example.org/tcp/1", 1),
        ("/memory/3", 1),
        ("/", 1),
        ("", 1),
        (LOOPBACK, 2),
        ("/ip6/::1/tcp/1", 2),
    ],
)
def test_distance_is_read_off_the_address(multiaddr: str, distance: int) -> None:
    assert distance_of(multiaddr) == distance


def test_we_are_never_dialled() -> None:
    book = book_of()
    book.add([at(LAN, ALICE.peer_id)], Origin.BOOTSTRAP, 0.0)
    assert book.next_dials(0.0) == []


def test_a_connected_peer_is_not_dialled() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.BOOTSTRAP, 0.0)
    book.connected(BOB.peer_id)
    assert (book.next_dials(100.0), book.next_wake()) == ([], inf)


def test_failures_back_off_to_a_minute_and_never_end() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.BOOTSTRAP, 0.0)
    times = [when for when, _ in dial_times(book, 7 * 24 * 3600.0)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    for failures, gap in enumerate(gaps[:6]):
        assert CONFIG.backoff_first * 2**failures / 2 <= gap <= CONFIG.backoff_first * 2**failures
    assert all(CONFIG.backoff_max / 2 <= gap <= CONFIG.backoff_max for gap in gaps[7:])
    assert times[-1] > 7 * 24 * 3600.0 - CONFIG.backoff_max


def test_two_books_do_not_dial_in_step() -> None:
    one, other = book_of(), AddressBook(BOB.peer_id, CONFIG, Random(8))
    one.add([at(LAN, CAROL.peer_id)], Origin.BOOTSTRAP, 0.0)
    other.add([at(LAN, CAROL.peer_id)], Origin.BOOTSTRAP, 0.0)
    assert dial_times(one, 60.0)[1:] != dial_times(other, 60.0)[1:]


def test_of_two_that_hear_of_each_other_the_smaller_dials_first() -> None:
    smaller, larger = book_of(ALICE.peer_id), book_of(BOB.peer_id)
    smaller.add([at(LAN, BOB.peer_id)], Origin.LEARNED, 0.0)
    larger.add([at(LAN, ALICE.peer_id)], Origin.LEARNED, 0.0)
    assert smaller.next_wake() == 0.0
    assert larger.next_wake() == CONFIG.turn_delay > 0.0


def test_a_lost_connection_is_looked_for_soon_whatever_failed_before() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.BOOTSTRAP, 0.0)
    dial_times(book, 3600.0)
    member_for(book, BOB.peer_id, 3601.0, 4000.0)
    assert 4000.0 < book.next_wake() <= 4000.0 + CONFIG.backoff_first


def test_news_of_a_peer_hurries_its_next_dial() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.KEPT, 0.0)
    dial_times(book, 3600.0)
    book.add([at(LAN)], Origin.NEARBY, 3600.0)
    assert 3600.0 < book.next_wake() <= 3600.0 + CONFIG.backoff_first


def test_news_does_not_make_us_dial_without_a_pause() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.KEPT, 0.0)
    dials = 0
    for second in range(60):
        book.add([at(LAN)], Origin.LEARNED, float(second))
        dials += len(dial_times(book, second + 0.99, float(second)))
    assert dials < 150


def test_a_peer_that_was_put_off_is_left_alone_whatever_is_heard_of_it() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.BOOTSTRAP, 0.0)
    book.connected(BOB.peer_id)
    book.put_off(BOB.peer_id, 300.0, 0.0)
    book.disconnected(BOB.peer_id, 0.0)
    book.add([at(LAN), at(WAN)], Origin.NEARBY, 1.0)
    assert 150.0 <= book.next_wake() <= 300.0


def test_a_peer_that_left_is_forgotten() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.NEARBY, 0.0)
    book.forget(BOB.peer_id)
    assert (book.next_dials(9.0), book.addresses()) == ([], [])


def test_a_bootstrap_address_is_never_forgotten() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.BOOTSTRAP, 0.0)
    book.forget(BOB.peer_id)
    assert book.next_dials(9.0) == [at(LAN)]


def test_hearsay_that_never_comes_true_is_dropped() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.LEARNED, 0.0)
    assert len(dial_times(book, 3600.0)) == CONFIG.hearsay_failures_max
    assert book.next_wake() == inf


def test_hearsay_that_came_true_once_is_kept_for_ever() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.LEARNED, 0.0)
    member_for(book, BOB.peer_id, 1.0, 2.0)
    assert len(dial_times(book, 3600.0, 2.0)) > CONFIG.hearsay_failures_max


def test_no_more_dials_at_once_than_allowed() -> None:
    book = book_of()
    book.add([at(LAN, identity(str(number)).peer_id) for number in range(40)], Origin.BOOTSTRAP, 0.0)
    dials = book.next_dials(0.0)
    assert len(dials) == CONFIG.dials_max
    assert book.next_wake() == inf
    book.dial_ended(dials[0], is_connected=True, now=0.1)
    assert len(book.next_dials(0.1)) == 1


def test_the_addresses_of_those_we_met_are_worth_keeping() -> None:
    book = book_of()
    book.add([at(LAN), at(WAN)], Origin.LEARNED, 0.0)
    book.add([at(LAN, CAROL.peer_id)], Origin.KEPT, 0.0)
    book.add([at(LAN, identity("never met").peer_id)], Origin.LEARNED, 0.0)
    member_for(book, BOB.peer_id, 5.0, 6.0)
    assert book.addresses() == [at(LAN), at(WAN), at(LAN, CAROL.peer_id)]


def test_a_peer_that_came_by_itself_is_kept_too() -> None:
    book = book_of()
    book.connected(BOB.peer_id)
    book.add([at(LAN)], Origin.LEARNED, 0.1)
    book.admitted(BOB.peer_id, 0.1)
    assert book.addresses() == [at(LAN)]


def test_connections_that_come_to_nothing_back_off_too() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.BOOTSTRAP, 0.0)
    now, dials = 0.0, 0
    while now < 3600.0:
        now = book.next_wake()
        (address,) = book.next_dials(now)
        dials += 1
        book.connected(BOB.peer_id)
        book.dial_ended(address, is_connected=True, now=now)
        book.disconnected(BOB.peer_id, now)
    assert dials < 140


def test_a_full_book_lets_the_longest_unmet_go_first() -> None:
    book = book_of(config=AddressBookConfig(peers_max=3))
    strangers = [at(LAN, identity(f"stranger {number}").peer_id) for number in range(20)]
    book.add([at(LAN)], Origin.BOOTSTRAP, 0.0)
    book.connected(CAROL.peer_id)
    book.add([at(LAN, CAROL.peer_id)], Origin.LEARNED, 0.0)
    book.admitted(CAROL.peer_id, 0.0)
    book.add(strangers, Origin.LEARNED, 0.0)
    assert {address.peer for address in book.next_dials(1.0)} == {BOB.peer_id, strangers[-1].peer}
    assert book.addresses() == [at(LAN, CAROL.peer_id)]


@pytest.mark.parametrize("origin", [Origin.LEARNED, Origin.NEARBY])
def test_invented_peers_keep_no_real_one_waiting_or_out(origin: Origin) -> None:
    book = book_of(config=AddressBookConfig(peers_max=40))
    kept = [at(LAN, identity(f"kept {number}").peer_id) for number in range(10)]
    book.add(kept, Origin.KEPT, 0.0)
    book.add([at(LAN, identity(f"invented {number}").peer_id) for number in range(100)], origin, 0.0)
    assert set(book.next_dials(1.0)) >= set(kept)


def test_a_peer_has_no_more_places_than_allowed_and_the_tokens_stay() -> None:
    book = book_of()
    book.add([at(WAN)], Origin.BOOTSTRAP, 0.0)
    book.add([at(f"/ip4/10.0.0.{number}/tcp/1") for number in range(50)], Origin.LEARNED, 0.0)
    dialled = {address.multiaddr for _, address in dial_times(book, 2.0)}
    assert len(dialled) == CONFIG.places_per_peer_max
    assert WAN in dialled


def test_more_places_than_fit_do_not_push_out_as_good_ones() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.LEARNED, 0.0)
    book.add([at(f"/ip4/10.0.0.{number}/tcp/1") for number in range(50)], Origin.LEARNED, 0.0)
    assert LAN in {address.multiaddr for _, address in dial_times(book, 20.0)}


def many(count: int, name: str = "many") -> list[PeerAddress]:
    return [at(LAN, PeerId(f"{name} {number}")) for number in range(count)]


def test_of_many_that_are_due_as_many_as_wanted_are_dialled_by_chance() -> None:
    chosen = set()
    for seed in range(20):
        book = AddressBook(ALICE.peer_id, CONFIG, Random(seed))
        book.add(many(100), Origin.KEPT, 0.0)
        dials = book.next_dials(1.0, wanted=3)
        assert len(dials) == 3
        chosen |= {address.peer for address in dials}
    assert len(chosen) > 30


def test_who_is_thought_gone_is_dialled_after_who_is_not() -> None:
    book = book_of()
    book.add(many(30, "gone"), Origin.KEPT, 0.0)
    dial_times(book, 300.0)
    assert book.stranger_count == 0
    book.add(many(4, "heard of"), Origin.SIGNED, 400.0)
    assert book.stranger_count == 4
    dialled = [address.peer for address in book.next_dials(401.0, wanted=6)]
    assert [peer.startswith("heard") for peer in dialled] == [True] * 4 + [False] * 2


def test_who_is_sought_is_dialled_at_once_at_each_place_whatever_else_is_wanted() -> None:
    book = book_of()
    book.add([at(WAN), at(LAN)], Origin.KEPT, 0.0)
    dial_times(book, 100.0)
    book.put_off(BOB.peer_id, 300.0, 100.0)
    book.seek(BOB.peer_id)
    tried: list[str] = []
    while book.is_sought(BOB.peer_id):
        for address in book.next_dials(100.0, wanted=0):
            tried.append(address.multiaddr)
            book.dial_ended(address, is_connected=False, now=100.0)
    assert sorted(tried) == sorted([LAN, WAN])


def test_dials_into_the_void_leave_room_for_who_is_sought() -> None:
    book = book_of()
    book.add(many(100), Origin.KEPT, 0.0)
    assert len(book.next_dials(1.0)) == CONFIG.dials_max - CONFIG.dials_reserved
    book.add([at(LAN)], Origin.KEPT, 1.0)
    book.seek(BOB.peer_id)
    assert book.next_dials(1.0) == [at(LAN)]


def test_who_is_connected_is_not_sought() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.KEPT, 0.0)
    book.seek(BOB.peer_id)
    book.connected(BOB.peer_id)
    assert not book.is_sought(BOB.peer_id)


def test_who_was_sought_and_found_is_not_dialled_at_once_when_it_is_lost() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.KEPT, 0.0)
    book.connected(BOB.peer_id)
    book.seek(BOB.peer_id)
    book.admitted(BOB.peer_id, 1.0)
    book.put_off(BOB.peer_id, 60.0, 2.0)
    book.disconnected(BOB.peer_id, 2.0)
    assert book.next_dials(3.0) == []
    assert book.next_wake() >= 32.0


def test_a_feeler_goes_to_anybody_but_who_was_put_off() -> None:
    book = book_of()
    book.add([*many(3), at(LAN)], Origin.KEPT, 0.0)
    dial_times(book, 100.0)
    book.put_off(BOB.peer_id, 300.0, 100.0)
    felt = set()
    for _ in range(50):
        (address,) = book.feeler(100.0)
        felt.add(address)
        book.dial_ended(address, is_connected=False, now=100.0)
    assert felt == set(many(3))


def test_hearsay_pushes_nobody_out_who_was_met_and_answers() -> None:
    book = book_of(config=AddressBookConfig(peers_max=10))
    for address in many(10, "met"):
        book.add([address], Origin.LEARNED, 0.0)
        member_for(book, address.peer, 0.0, 1.0)
    book.add(many(100, "heard of"), Origin.LEARNED, 2.0)
    assert set(book.addresses()) == set(many(10, "met"))


def test_in_a_full_book_the_dead_make_room_for_newcomers() -> None:
    book = book_of(config=AddressBookConfig(peers_max=10))
    book.add(many(10, "dead"), Origin.KEPT, 0.0)
    dial_times(book, 100.0)
    book.add(many(1, "hearsay"), Origin.LEARNED, 100.0)
    book.add(many(1), Origin.SIGNED, 100.0)
    assert many(1, "hearsay")[0].peer not in book._peers
    assert many(1)[0] in book.next_dials(101.0, wanted=1)


def test_an_event_costs_the_same_however_many_are_known() -> None:
    """Counted in steps of Python, so that a busy machine changes nothing."""
    assert steps_of_an_event(4000) < 2 * steps_of_an_event(40)


def steps_of_an_event(known: int) -> int:
    book = book_of()
    book.add(many(known), Origin.KEPT, 0.0)
    book.next_dials(1.0, wanted=0)

    def event() -> None:
        book.add(many(1), Origin.LEARNED, 1.0)
        book.connected(many(1)[0].peer)
        book.disconnected(many(1)[0].peer, 1.0)
        book.next_dials(1.0, wanted=0)
        book.next_wake()

    return steps_of(event)


def steps_of(event: Callable[[], None]) -> int:
    """How many steps Python takes for it."""
    steps = 0

    def count(frame: FrameType, what: str, argument: Any) -> Any:
        nonlocal steps
        steps += 1
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        event()
    finally:
        sys.settrace(before)
    return steps


def feed_and_fail(book: AddressBook, until: float, slow: float, wanted: int | None = None) -> list[PeerId]:
    """Who is dialled up to `until`: invented peers fail after `slow` seconds, others at once."""
    now, running, dialled = 2.0, list[tuple[float, PeerAddress]](), list[PeerId]()
    while now < until:
        for address in book.next_dials(now, wanted and max(0, wanted - len(book.dialling))):
            dialled.append(address.peer)
            running.append((now + (slow if address.peer.startswith("fake") else 0.01), address))
        running.sort()
        wake_at = book.next_wake()
        if running and running[0][0] <= max(wake_at, now):
            ended_at, address = running.pop(0)
            now = max(now, ended_at)
            book.dial_ended(address, is_connected=False, now=now)
        else:
            now = max(now, wake_at)
    return dialled


def away_for_an_hour(fakes: int, wanted: int | None, slow: float) -> int:
    """How often a peer that was met is dialled in its absence, with so many invented peers around."""
    book = book_of()
    book.add([at(LAN)], Origin.LEARNED, 0.0)
    member_for(book, BOB.peer_id, 0.0, 1.0)
    book.add(many(fakes, "fake"), Origin.LEARNED, 1.0)
    return feed_and_fail(book, 3600.0, slow, wanted).count(BOB.peer_id)


@pytest.mark.parametrize("wanted", [None, 24])
@pytest.mark.parametrize("slow", [0.001, 10.0])
def test_invented_peers_do_not_keep_us_from_dialling_who_is_away(slow: float, wanted: int | None) -> None:
    alone = away_for_an_hour(0, wanted, slow)
    assert away_for_an_hour(512, wanted, slow) > 0.9 * alone > 70


def test_with_one_dial_at_a_time_who_is_away_has_its_turn_too() -> None:
    assert away_for_an_hour(512, 1, 10.0) > 20


@pytest.mark.parametrize("origin", [Origin.LEARNED, Origin.NEARBY])
def test_invented_peers_are_forgotten_at_whatever_places(origin: Origin) -> None:
    book = book_of()
    for number in range(8):
        book.add([at(f"/ip4/10.0.0.{number}/tcp/1")], origin, 0.0)
    assert len(dial_times(book, 3600.0)) <= CONFIG.hearsay_failures_max
    assert BOB.peer_id not in book._peers


def test_hearsay_that_was_heard_of_long_ago_is_tried_once() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.LEARNED, 0.0)
    assert len(dial_times(book, 3600.0, CONFIG.hearsay_time)) == 1


def test_to_tell_hearsay_again_does_not_hurry_it() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.LEARNED, 0.0)
    dials = 0
    for second in range(60):
        book.add([at(LAN)], Origin.LEARNED, float(second))
        dials += len(dial_times(book, second + 0.99, float(second)))
    assert dials <= 8


def test_no_frames_of_hearsay_push_out_what_an_owner_signed() -> None:
    book = book_of()
    book.add(many(500, "signed"), Origin.SIGNED, 0.0)
    for frame in range(140):
        book.add(many(32, f"fake {frame}"), Origin.LEARNED, 1.0)
    assert all(address.peer in book._peers for address in many(500, "signed"))
    assert len(book._peers) == 500 + CONFIG.hearsay_max
    assert book.stranger_count == 500


def test_refused_dials_of_hearsay_are_few_a_second() -> None:
    book = book_of()
    book.add(many(1000), Origin.LEARNED, 0.0)
    dials = dial_times(book, 60.0)
    assert len(dials) <= CONFIG.hearsay_burst + 60.0 * CONFIG.hearsay_rate + 1
    assert len(dials) > 100


def test_dials_of_hearsay_into_the_void_leave_room_for_who_is_known() -> None:
    book = book_of()
    book.add(many(1000), Origin.LEARNED, 0.0)
    assert len(book.next_dials(1.0)) == CONFIG.hearsay_dials_max
    book.add(many(8, "kept"), Origin.KEPT, 1.0)
    assert len(book.next_dials(2.0)) == 8


def test_the_end_of_a_dial_costs_the_same_however_many_are_due() -> None:
    assert steps_of_a_failed_dial(4000) < 2 * steps_of_a_failed_dial(40)


def steps_of_a_failed_dial(known: int) -> int:
    book = book_of()
    book.add(many(known), Origin.KEPT, 0.0)
    first = book.next_dials(1.0, wanted=1)[0]

    def event() -> None:
        book.dial_ended(first, is_connected=False, now=1.0)
        book.next_dials(1.0, wanted=1)

    return steps_of(event)


def meetings(book: AddressBook, stays: float, until: float) -> list[float]:
    """When a peer is dialled that is admitted each time, and lost after so many seconds."""
    now, dialled = 0.0, []
    while (now := max(now, book.next_wake())) < until:
        for address in book.next_dials(now):
            dialled.append(now)
            book.connected(address.peer)
            book.dial_ended(address, is_connected=True, now=now)
            book.admitted(address.peer, now)
            now += stays
            book.disconnected(address.peer, now)
    return dialled


def test_who_is_admitted_and_drops_the_link_each_time_is_dialled_ever_more_slowly() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.KEPT, 0.0)
    dialled = meetings(book, 0.01, 600.0)
    assert len(dialled) < 25
    assert dialled[2] < 2.0, "a node that restarts is found soon"


def test_news_does_not_hurry_who_drops_the_link_each_time() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.KEPT, 0.0)
    dialled = meetings(book, 0.01, 120.0)
    book.add([at(LAN), at(WAN)], Origin.NEARBY, 120.0)
    assert len(dialled) > 5
    assert book.next_wake() > dialled[-1] + 15.0


def test_who_stayed_for_a_while_is_looked_for_at_once_each_time() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.KEPT, 0.0)
    assert len(meetings(book, CONFIG.settle_time, 60.0)) > 10


VPN = "/ip4/10.8.0.5/tcp/4747"


def test_the_place_that_worked_goes_first_and_a_silent_one_stays_behind() -> None:
    book = book_of()
    book.add([at(VPN), at(LAN)], Origin.KEPT, 0.0)
    (vpn,) = book.next_dials(0.5)
    book.dial_ended(vpn, is_connected=False, now=0.5)
    assert vpn == at(VPN)
    for start in (10.0, 100.0, 200.0):
        assert book.next_dials(start) == [at(LAN)]
        book.connected(BOB.peer_id)
        book.dial_ended(at(LAN), is_connected=True, now=start)
        member_for(book, BOB.peer_id, start, start + 50.0)
    assert book.addresses() == [at(LAN), at(VPN)]


def test_who_came_by_itself_is_looked_for_where_it_was_met_before() -> None:
    book = book_of()
    book.add([at(LAN), at(WAN)], Origin.KEPT, 0.0)
    book.dial_ended(at(WAN), is_connected=True, now=0.0)
    member_for(book, BOB.peer_id, 0.0, 50.0)
    member_for(book, BOB.peer_id, 60.0, 100.0)
    assert book.next_dials(200.0) == [at(WAN)]


def test_equal_places_are_tried_in_the_order_in_which_they_were_told() -> None:
    book = book_of()
    book.add([at(LAN), at(VPN), at("/ip4/172.17.0.1/tcp/4747")], Origin.KEPT, 0.0)
    book.seek(BOB.peer_id)
    tried = []
    while book.is_sought(BOB.peer_id):
        (address,) = book.next_dials(0.0, wanted=0)
        tried.append(address.multiaddr)
        book.dial_ended(address, is_connected=False, now=0.0)
    assert tried == [LAN, VPN, "/ip4/172.17.0.1/tcp/4747"]


def test_invented_places_do_not_push_out_the_one_that_worked() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.LEARNED, 0.0)
    book.dial_ended(at(LAN), is_connected=True, now=0.0)
    member_for(book, BOB.peer_id, 0.0, 50.0)
    dial_times(book, 100.0, 50.0)
    book.add([at(f"/ip4/10.0.0.{number}/tcp/1") for number in range(50)], Origin.LEARNED, 100.0)
    assert at(LAN) in book.addresses()


def test_who_is_given_up_is_not_hurried_any_more() -> None:
    book = book_of()
    book.add([at(LAN), at(WAN)], Origin.KEPT, 0.0)
    book.seek(BOB.peer_id)
    (first,) = book.next_dials(0.0, wanted=0)
    book.give_up(BOB.peer_id)
    book.dial_ended(first, is_connected=False, now=0.1)
    assert book.next_dials(0.1, wanted=0) == []


def test_to_seek_a_member_leaves_nothing_behind() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.KEPT, 0.0)
    book.connected(BOB.peer_id)
    book.admitted(BOB.peer_id, 0.0)
    book.seek(BOB.peer_id)
    book.add([at(WAN)], Origin.BOOTSTRAP, 1.0)
    book.disconnected(BOB.peer_id, 10.0)
    assert book.next_dials(10.0, wanted=0) == []


def test_a_feeler_prefers_who_was_met_to_hearsay() -> None:
    book = book_of()
    book.add([at(LAN)], Origin.KEPT, 0.0)
    book.add(many(100), Origin.LEARNED, 0.0)
    assert book.feeler(1.0) == [at(LAN)]
