"""The book dials who is missing, near before far, ever more slowly, and for ever."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from random import Random

import pytest

from p2p.address_book import AddressBook, AddressBookConfig, Origin, distance_of
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
