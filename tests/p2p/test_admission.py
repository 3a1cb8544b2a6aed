"""The door lets in who may be here, tells the others why not, and notices two under one key."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from math import inf
from random import Random

import pytest

from p2p import hello
from p2p.admission import Admission
from p2p.admission_config import AdmissionConfig
from p2p.admission_events import (
    AddressesFound,
    AddressesReceived,
    ByeReceived,
    CloseControl,
    ControlEnded,
    ControlId,
    ControlOpened,
    CopySuspected,
    Dial,
    DialEnded,
    Disconnect,
    Effect,
    HelloReceived,
    LeaveDecided,
    OpenControl,
    PeerWanted,
    PlaceGivenUp,
    Refusal,
    RuleBroken,
    SayHello,
    Tell,
    TimerFired,
    Unreached,
)
from p2p.boot_ids import BootIds
from p2p.finder import AWAITED_MAX, FIND_TIME_MAX
from p2p.guest import CONTROL_STREAMS_MAX
from p2p.hello import Addresses, Bye, Hello
from p2p.identity import Identity
from p2p.known_peer import Origin
from p2p.neighbours import NeighboursConfig
from p2p.network import Connected, Disconnected, Rerouted
from p2p.peer import PeerAddress, PeerId
from p2p.peer_events import PeerAdmitted, PeerLost
from tests.p2p.people import ALICE, BOB, CAROL, DAVE, FOUNDER, identity, invite

UNIX_TIME = 1_800_000_000.0
CONFIG = AdmissionConfig()


def door(me: Identity = BOB, config: AdmissionConfig = CONFIG) -> Admission:
    return Admission(me.peer_id, FOUNDER.public_key, Random(1), config)


def hello_of(who: Identity, boot_id: str = "first", expires_at: int = 0, *, multiaddr: str = "") -> Hello:
    credential = invite(expires_at=expires_at).credential_for(who.peer_id)
    places = (multiaddr or f"/memory/{who.peer_id[-4:]}",)
    return Hello("name", "0.1", boot_id, credential, places)


def says_hello(who: Identity, control: int, said: Hello | None = None) -> HelloReceived:
    return HelloReceived(who.peer_id, ControlId(control), said or hello_of(who), UNIX_TIME)


def admit(admission: Admission, who: Identity, control: int, now: float = 0.0) -> list[Effect]:
    """Everything that happens until `who` is admitted."""
    effects = admission.handle(Connected(who.peer_id), now)
    effects += admission.handle(ControlOpened(who.peer_id, ControlId(control)), now)
    effects += admission.handle(says_hello(who, control), now)
    assert PeerAdmitted(who.peer_id) in effects
    return effects


def dials_until(admission: Admission, end: float) -> list[tuple[float, PeerAddress]]:
    """Every dial that the passing of time brings, each failing at once."""
    dialled, now = [], 0.0
    while (now := max(now, admission.next_wake())) <= end:
        pending = admission.handle(TimerFired(), now)
        while pending:
            effect = pending.pop()
            if isinstance(effect, Dial):
                dialled.append((now, effect.address))
                pending += admission.handle(DialEnded(effect.address, is_connected=False), now)
    return dialled


def without_dials(effects: list[Effect]) -> list[Effect]:
    return [effect for effect in effects if not isinstance(effect, Dial)]


def test_the_smaller_id_opens_the_control_stream() -> None:
    assert door(BOB).handle(Connected(CAROL.peer_id), 0.0) == [OpenControl(CAROL.peer_id)]
    assert door(BOB).handle(Connected(ALICE.peer_id), 0.0) == []


def test_a_valid_hello_is_admitted_with_what_it_said() -> None:
    admission = door()
    admit(admission, CAROL, 1)
    member = admission.members[CAROL.peer_id]
    assert (member.name, member.version, member.boot_id, member.role) == ("name", "0.1", "first", "worker")
    assert member.addresses == hello_of(CAROL).addresses


def test_we_say_hello_as_soon_as_the_stream_is_open() -> None:
    admission = door()
    admission.handle(Connected(CAROL.peer_id), 0.0)
    assert admission.handle(ControlOpened(CAROL.peer_id, ControlId(1)), 0.0) == [SayHello(ControlId(1))]


def test_a_stream_may_be_seen_before_its_connection() -> None:
    admission = door()
    admission.handle(ControlOpened(ALICE.peer_id, ControlId(1)), 0.0)
    assert PeerAdmitted(ALICE.peer_id) in admission.handle(says_hello(ALICE, 1), 0.0)
    assert admission.handle(Connected(ALICE.peer_id), 0.0) == []
    assert ALICE.peer_id in admission.members


REFUSED = {
    "expired": hello_of(CAROL, expires_at=int(UNIX_TIME) - 3600),
    "of another node": replace(hello_of(CAROL), credential=hello_of(DAVE).credential),
    "of another swarm": replace(
        hello_of(CAROL), credential=invite(founder=identity("other")).credential_for(CAROL.peer_id)
    ),
    "altered": replace(hello_of(CAROL), credential=replace(hello_of(CAROL).credential, signature=bytes(64))),
}


@pytest.mark.parametrize("said", REFUSED.values(), ids=REFUSED)
def test_a_credential_that_does_not_hold_is_told_so_and_left_alone(said: Hello) -> None:
    admission = door()
    admission.handle(AddressesFound((PeerAddress(CAROL.peer_id, "/memory/1"),), Origin.BOOTSTRAP), 0.0)
    admission.handle(Connected(CAROL.peer_id), 0.0)
    admission.handle(ControlOpened(CAROL.peer_id, ControlId(1)), 0.0)
    refusal, goodbye = admission.handle(says_hello(CAROL, 1, said), 0.0)
    assert isinstance(refusal, Refusal)
    assert refusal.by_us
    assert goodbye == Disconnect(CAROL.peer_id, ControlId(1), Bye(hello.REFUSED, refusal.reason))
    assert admission.members == {}
    admission.handle(Disconnected(CAROL.peer_id), 1.0)
    assert admission.next_wake() >= CONFIG.refused_delay / 2


def test_who_never_says_hello_is_disconnected_in_time() -> None:
    admission = door()
    admission.handle(Connected(ALICE.peer_id), 0.0)
    assert admission.next_wake() == CONFIG.hello_timeout
    refusal, goodbye = admission.handle(TimerFired(), CONFIG.hello_timeout)
    assert isinstance(refusal, Refusal)
    assert isinstance(goodbye, Disconnect)
    assert goodbye.bye is not None
    assert goodbye.bye.reason == hello.NO_HELLO


def test_opening_one_control_stream_after_the_other_gains_no_time() -> None:
    admission = door()
    admission.handle(Connected(ALICE.peer_id), 0.0)
    for second in range(4):
        admission.handle(ControlOpened(ALICE.peer_id, ControlId(second)), float(second))
    assert admission.next_wake() == CONFIG.hello_timeout


def test_of_many_control_streams_two_are_kept_at_most() -> None:
    admission = door()
    closed: list[Effect] = []
    for number in range(9):
        effects = admission.handle(ControlOpened(ALICE.peer_id, ControlId(number)), 0.0)
        closed += [effect for effect in effects if isinstance(effect, CloseControl)]
    assert closed == [CloseControl(ControlId(number)) for number in range(7)]


def test_the_control_stream_follows_to_another_connection() -> None:
    for me, peer in ((BOB, CAROL), (BOB, ALICE)):
        admission = door(me)
        admit(admission, peer, 1)
        admission.handle(Rerouted(peer.peer_id), 1.0)
        effects = admission.handle(TimerFired(), 1.0 + CONFIG.retry_delay)
        assert (OpenControl(peer.peer_id) in effects) == (me.peer_id < peer.peer_id)


def test_a_control_stream_that_cannot_be_opened_is_tried_again() -> None:
    admission = door()
    admission.handle(Connected(CAROL.peer_id), 0.0)
    assert admission.handle(ControlEnded(CAROL.peer_id, None), 1.0) == []
    assert admission.next_wake() == 1.0 + CONFIG.retry_delay
    assert admission.handle(TimerFired(), 1.0 + CONFIG.retry_delay) == [OpenControl(CAROL.peer_id)]


def addresses_told(effects: list[Effect]) -> dict[int, Addresses]:
    return {effect.control: effect.message for effect in effects if isinstance(effect, Tell)}


def test_a_newcomer_is_told_where_the_others_are() -> None:
    admission = door()
    admit(admission, CAROL, 1)
    assert addresses_told(admit(admission, DAVE, 2)) == {
        2: Addresses((PeerAddress(CAROL.peer_id, hello_of(CAROL).addresses[0]),))
    }


def test_members_that_cannot_be_dialled_hear_of_newcomers_in_a_while() -> None:
    admission = door()
    admit(admission, CAROL, 1)
    admit(admission, DAVE, 2)
    told: dict[int, Addresses] = {}
    for _ in range(20):
        told |= addresses_told(admission.handle(TimerFired(), admission.next_wake()))
    assert told == {
        1: Addresses((PeerAddress(DAVE.peer_id, hello_of(DAVE).addresses[0]),)),
        2: Addresses((PeerAddress(CAROL.peer_id, hello_of(CAROL).addresses[0]),)),
    }


def test_peers_that_peers_speak_of_are_dialled() -> None:
    admission = door()
    admit(admission, CAROL, 1)
    address = PeerAddress(DAVE.peer_id, "/memory/9")
    assert Dial(address) in admission.handle(AddressesReceived(CAROL.peer_id, ControlId(1), (address,)), 1.0)


def test_addresses_before_hello_are_not_believed() -> None:
    admission = door()
    admission.handle(ControlOpened(CAROL.peer_id, ControlId(1)), 0.0)
    address = PeerAddress(DAVE.peer_id, "/memory/9")
    effects = admission.handle(AddressesReceived(CAROL.peer_id, ControlId(1), (address,)), 1.0)
    assert not any(isinstance(effect, Dial) for effect in effects)
    assert any(isinstance(effect, Disconnect) for effect in effects)


def test_a_flood_of_addresses_ends_the_connection() -> None:
    admission = door()
    admit(admission, CAROL, 1)
    flood = AddressesReceived(CAROL.peer_id, ControlId(1), ())
    for number in range(CONFIG.address_frames_max):
        assert admission.handle(flood, number * 0.01) == []
    assert PeerLost(CAROL.peer_id, True, hello.MISBEHAVED) in admission.handle(flood, 59.0)


def test_address_frames_over_a_long_time_are_no_flood() -> None:
    admission = door()
    admit(admission, CAROL, 1)
    for number in range(3 * CONFIG.address_frames_max):
        assert admission.handle(AddressesReceived(CAROL.peer_id, ControlId(1), ()), number * 0.2) == []


def test_a_goodbye_is_announced_and_the_end_of_the_stream_is_not() -> None:
    for event, is_announced in (
        (ByeReceived(CAROL.peer_id, ControlId(1), Bye(hello.AWAY)), True),
        (ControlEnded(CAROL.peer_id, ControlId(1)), False),
        (Disconnected(CAROL.peer_id), False),
    ):
        admission = door()
        admit(admission, CAROL, 1)
        lost = [effect for effect in admission.handle(event, 1.0) if isinstance(effect, PeerLost)]
        assert [effect.announced for effect in lost] == [is_announced]
        assert admission.members == {}


def test_a_loss_is_told_once() -> None:
    admission = door()
    admit(admission, CAROL, 1)
    admission.handle(ControlEnded(CAROL.peer_id, ControlId(1)), 1.0)
    assert without_dials(admission.handle(Disconnected(CAROL.peer_id), 1.2)) == []


def test_a_peer_that_left_is_not_looked_for() -> None:
    admission = door()
    admit(admission, CAROL, 1)
    admission.handle(ByeReceived(CAROL.peer_id, ControlId(1), Bye(hello.LEAVE)), 1.0)
    admission.handle(Disconnected(CAROL.peer_id), 1.0)
    assert dials_until(admission, 3600.0) == []


def test_a_peer_that_left_while_we_were_not_connected_is_not_looked_for() -> None:
    admission = door()
    admission.handle(AddressesFound((PeerAddress(CAROL.peer_id, "/memory/1"),), Origin.KEPT), 0.0)
    admission.handle(PlaceGivenUp(CAROL.peer_id), 0.1)
    assert dials_until(admission, 3600.0) == []


def test_being_refused_is_told_with_its_reason() -> None:
    admission = door()
    admission.handle(Connected(CAROL.peer_id), 0.0)
    admission.handle(ControlOpened(CAROL.peer_id, ControlId(1)), 0.0)
    bye = Bye(hello.REFUSED, "the invite expired 3 h ago")
    effects = admission.handle(ByeReceived(CAROL.peer_id, ControlId(1), bye), 0.0)
    assert Refusal(CAROL.peer_id, by_us=False, reason="the invite expired 3 h ago") in effects


def test_a_broken_rule_ends_the_connection_with_a_reason() -> None:
    admission = door()
    admit(admission, CAROL, 1)
    effects = admission.handle(RuleBroken(CAROL.peer_id, ControlId(1), "a frame that is not msgpack"), 1.0)
    assert Refusal(CAROL.peer_id, by_us=True, reason="a frame that is not msgpack") in effects
    bye = Bye(hello.MISBEHAVED, "a frame that is not msgpack")
    assert Disconnect(CAROL.peer_id, ControlId(1), bye) in effects
    assert CAROL.peer_id not in admission.members


def test_a_second_hello_on_one_stream_is_against_the_rules() -> None:
    admission = door()
    admit(admission, CAROL, 1)
    admission.handle(says_hello(CAROL, 1), 1.0)
    assert CAROL.peer_id not in admission.members


def test_a_second_stream_of_the_same_process_takes_over_quietly() -> None:
    admission = door()
    admit(admission, CAROL, 1)
    assert admission.handle(ControlOpened(CAROL.peer_id, ControlId(2)), 1.0) == [SayHello(ControlId(2))]
    assert admission.handle(says_hello(CAROL, 2), 1.0) == [CloseControl(ControlId(1))]
    assert admission.handle(ControlEnded(CAROL.peer_id, ControlId(1)), 1.0) == []
    assert CAROL.peer_id in admission.members


def test_a_restarted_peer_is_lost_and_admitted_anew() -> None:
    admission = door()
    admit(admission, CAROL, 1)
    admission.handle(ControlOpened(CAROL.peer_id, ControlId(2)), 1.0)
    effects = admission.handle(says_hello(CAROL, 2, hello_of(CAROL, "second")), 1.0)
    assert [effect for effect in effects if isinstance(effect, PeerLost | PeerAdmitted)] == [
        PeerLost(CAROL.peer_id, announced=False, reason="it was restarted"),
        PeerAdmitted(CAROL.peer_id),
    ]


def test_a_process_cannot_become_another_one_within_a_connection() -> None:
    admission = door()
    admit(admission, CAROL, 1)
    admission.handle(ControlOpened(CAROL.peer_id, ControlId(2)), 60.0)
    effects = admission.handle(says_hello(CAROL, 2, hello_of(CAROL, "second")), 60.0)
    assert PeerLost(CAROL.peer_id, announced=True, reason=hello.MISBEHAVED) in effects
    assert CAROL.peer_id not in admission.members


def test_boot_ids_without_end_are_admitted_a_few_times_only() -> None:
    admission = door()
    admit(admission, CAROL, 1)
    effects: list[Effect] = []
    for number in range(2, 1000):
        effects += admission.handle(ControlOpened(CAROL.peer_id, ControlId(number)), 1.0)
        effects += admission.handle(says_hello(CAROL, number, hello_of(CAROL, f"boot {number}")), 1.0)
    assert sum(isinstance(effect, PeerAdmitted) for effect in effects) < CONTROL_STREAMS_MAX
    assert CAROL.peer_id not in admission.members


def says_hello_as(admission: Admission, boot_id: str, control: int, now: float) -> list[Effect]:
    admission.handle(Connected(CAROL.peer_id), now)
    admission.handle(ControlOpened(CAROL.peer_id, ControlId(control)), now)
    return admission.handle(says_hello(CAROL, control, hello_of(CAROL, boot_id)), now)


def test_a_process_that_returns_after_its_successor_is_let_in_and_a_person_is_told() -> None:
    admission = door()
    says_hello_as(admission, "first", 1, 0.0)
    assert CopySuspected(CAROL.peer_id) not in says_hello_as(admission, "second", 2, 1.0)
    effects = says_hello_as(admission, "first", 3, 1.0 + CONFIG.swap_interval)
    assert CopySuspected(CAROL.peer_id) in effects
    assert PeerAdmitted(CAROL.peer_id) in effects
    assert admission.members[CAROL.peer_id].boot_id == "first"


def test_two_processes_with_one_key_take_turns_without_haste() -> None:
    admission = door()
    says_hello_as(admission, "first", 1, 0.0)
    says_hello_as(admission, "second", 2, 1.0)
    effects = says_hello_as(admission, "first", 3, 2.0)
    bye = Bye(hello.COPIED_HOME, "another process runs under this key")
    assert CopySuspected(CAROL.peer_id) not in effects, "said once for each that is let in"
    assert Disconnect(CAROL.peer_id, ControlId(3), bye) in effects
    assert CAROL.peer_id not in admission.members
    admission.handle(Disconnected(CAROL.peer_id), 2.0)
    waited = dials_until(admission, 60.0)[0][0] - 1.0
    assert CONFIG.swap_interval < waited < 3 * CONFIG.swap_interval


def test_restarts_are_no_copies() -> None:
    boots = BootIds()
    for boot_id in ("1", "2", "2", "3", "4"):
        assert not boots.is_replaced(CAROL.peer_id, boot_id)
        boots.remember(CAROL.peer_id, boot_id, float(boot_id))
    assert boots.is_replaced(CAROL.peer_id, "3")
    assert boots.replaced_at(CAROL.peer_id) == 4.0


def test_too_many_who_say_nothing_are_turned_away_and_members_stay() -> None:
    admission = door(BOB, replace(CONFIG, strangers_max=2))
    admit(admission, CAROL, 1)
    effects: list[Effect] = []
    for number in range(3):
        effects += admission.handle(Connected(identity(f"x{number}").peer_id), 0.0)
    goodbyes = [effect for effect in effects if isinstance(effect, Disconnect)]
    assert [effect.bye for effect in goodbyes] == [Bye(hello.CROWDED)]
    assert CAROL.peer_id in admission.members


SMALL = replace(CONFIG, neighbours=NeighboursConfig(min=2, max=3))
SETTLED = SMALL.neighbours.settle_time
CROWD = [identity(f"crowd {number}") for number in range(8)]


def crowded_door(count: int, in_use: Container[PeerId] = frozenset()) -> Admission:
    """A door with `count` members, of which it keeps three, all admitted at 0.0."""
    admission = Admission(BOB.peer_id, FOUNDER.public_key, Random(1), SMALL, in_use)
    for number, who in enumerate(CROWD[:count]):
        admit(admission, who, number)
    return admission


def goodbyes(effects: list[Effect]) -> dict[PeerId, Bye | None]:
    return {effect.peer: effect.bye for effect in effects if isinstance(effect, Disconnect)}


def test_a_newcomer_is_let_in_and_one_of_the_others_is_let_go() -> None:
    admission = crowded_door(3)
    effects = admit(admission, CAROL, 9, SETTLED)
    ((gone, bye),) = goodbyes(effects).items()
    assert gone in {who.peer_id for who in CROWD}
    assert bye == Bye(hello.ENOUGH)
    assert PeerLost(gone, announced=True, reason=hello.ENOUGH) in effects
    assert CAROL.peer_id in admission.members
    assert len(admission.members) == 3


def test_who_is_in_use_is_not_let_go() -> None:
    admission = crowded_door(3, in_use={CROWD[0].peer_id, CROWD[1].peer_id})
    assert list(goodbyes(admit(admission, CAROL, 9, SETTLED))) == [CROWD[2].peer_id]


def test_newcomers_at_once_all_stay_for_a_while() -> None:
    admission = crowded_door(5)
    assert len(admission.members) == 5
    effects: list[Effect] = []
    now = 0.0
    while len(admission.members) > 3:
        now = max(now, admission.next_wake())
        effects += admission.handle(TimerFired(), now)
    assert SETTLED <= now < SETTLED + 2.0
    assert len(goodbyes(effects)) == 2


def test_where_all_are_in_use_a_newcomer_is_let_in_all_the_same() -> None:
    admission = crowded_door(6, in_use={who.peer_id for who in CROWD})
    effects = admit(admission, CAROL, 9)
    ((gone, bye),) = goodbyes(effects).items()
    assert gone in {who.peer_id for who in CROWD}
    assert bye == Bye(hello.ENOUGH)
    assert CAROL.peer_id in admission.members
    assert len(admission.members) == 2 * SMALL.neighbours.max


def test_who_rushes_in_is_let_in_told_of_the_others_and_makes_room() -> None:
    admission = crowded_door(6)
    effects = admit(admission, CAROL, 9, 0.1)
    (gone,) = goodbyes(effects)
    assert gone != CAROL.peer_id
    assert len(addresses_told(effects)[9].addresses) == 6


def test_enough_is_no_evidence_and_its_peer_is_left_alone_for_a_while() -> None:
    admission = door()
    admit(admission, CAROL, 1)
    effects = admission.handle(ByeReceived(CAROL.peer_id, ControlId(1), Bye(hello.ENOUGH)), 1.0)
    assert PeerLost(CAROL.peer_id, announced=True, reason=hello.ENOUGH, is_leaving=False) in effects
    assert not any(isinstance(effect, Refusal) for effect in effects)
    admission.handle(Disconnected(CAROL.peer_id), 1.0)
    assert CONFIG.enough_delay / 2 <= dials_until(admission, 600.0)[0][0] - 1.0 <= CONFIG.enough_delay


def test_who_was_let_go_is_not_dialled_at_once() -> None:
    admission = crowded_door(3)
    (gone,) = goodbyes(admit(admission, CAROL, 9, SETTLED))
    admission.handle(Disconnected(gone), SETTLED)
    dialled = [address.peer for when, address in dials_until(admission, SETTLED + CONFIG.enough_delay / 2)]
    assert gone not in dialled


GOODBYES = {
    hello.LEAVE: True,
    hello.AWAY: True,
    hello.REFUSED: False,
    hello.COPIED_HOME: False,
    hello.MISBEHAVED: False,
    hello.NO_HELLO: False,
    hello.CROWDED: False,
    hello.ENOUGH: False,
    "a word of a later version": False,
}


@pytest.mark.parametrize(("word", "is_leaving"), GOODBYES.items())
def test_only_who_says_that_it_goes_is_said_to_go(word: str, is_leaving: bool) -> None:
    admission = door()
    admit(admission, CAROL, 1)
    effects = admission.handle(ByeReceived(CAROL.peer_id, ControlId(1), Bye(word)), 1.0)
    assert PeerLost(CAROL.peer_id, announced=True, reason=word, is_leaving=is_leaving) in effects


def test_a_node_that_goes_does_not_say_that_the_others_do() -> None:
    admission = door()
    admit(admission, CAROL, 1)
    lost = PeerLost(CAROL.peer_id, announced=True, reason=hello.AWAY, is_leaving=False)
    assert lost in admission.handle(LeaveDecided(hello.AWAY), 1.0)


STRANGERS = [PeerAddress(identity(f"stranger {number}").peer_id, f"/memory/{number}") for number in range(40)]


def heard_of_strangers(admission: Admission, now: float) -> list[PeerId]:
    effects = admission.handle(AddressesFound(tuple(STRANGERS), Origin.SIGNED), now)
    return [effect.address.peer for effect in effects if isinstance(effect, Dial)]


def test_in_a_large_swarm_no_more_are_dialled_than_wanted() -> None:
    assert len(heard_of_strangers(crowded_door(0), 1.0)) == 2
    assert len(heard_of_strangers(crowded_door(1), 1.0)) == 1
    assert heard_of_strangers(crowded_door(2), 1.0) == []


def test_who_connects_and_says_nothing_does_not_keep_us_from_dialling_others() -> None:
    admission = crowded_door(0)
    for who in CROWD:
        admission.handle(Connected(who.peer_id), 0.0)
    assert len(heard_of_strangers(admission, 1.0)) == 2


def test_who_was_dialled_and_may_yet_say_who_it_is_counts_as_found() -> None:
    admission = crowded_door(0)
    admission.handle(Connected(CROWD[0].peer_id, is_dialled=True), 0.0)
    assert len(heard_of_strangers(admission, 1.0)) == 1


def test_bootstrap_addresses_are_dialled_at_once_however_many_are_known() -> None:
    admission = crowded_door(0)
    heard_of_strangers(admission, 1.0)
    token = PeerAddress(CAROL.peer_id, "/memory/token")
    assert Dial(token) in admission.handle(AddressesFound((token,), Origin.BOOTSTRAP), 1.0)


def test_who_loses_a_neighbour_dials_another_one() -> None:
    admission = crowded_door(2)
    heard_of_strangers(admission, 1.0)
    effects = admission.handle(Disconnected(CROWD[0].peer_id), 2.0)
    (dialled,) = [effect.address for effect in effects if isinstance(effect, Dial)]
    assert dialled in STRANGERS


def test_a_full_view_feels_around_now_and_then() -> None:
    admission = crowded_door(2)
    heard_of_strangers(admission, 1.0)
    felt = [address for _, address in dials_until(admission, 1.0 + 100 * 30.0)]
    assert 60 < len(felt) < 140
    assert len(set(felt)) > 20


def test_a_small_swarm_does_not_feel_around() -> None:
    admission = door()
    admit(admission, CAROL, 1)
    assert dials_until(admission, 3600.0) == []


WANTED = PeerAddress(CAROL.peer_id, "/memory/wanted")


def door_that_knows_carol() -> Admission:
    """She said that she had enough a second ago."""
    admission = crowded_door(2)
    heard_of_strangers(admission, 1.0)
    admission.handle(AddressesFound((WANTED,), Origin.KEPT), 1.0)
    admission.book.put_off(CAROL.peer_id, CONFIG.enough_delay, 1.0)
    return admission


def test_who_is_wanted_is_dialled_at_once() -> None:
    admission = door_that_knows_carol()
    assert admission.handle(PeerWanted(CAROL.peer_id), 2.0) == [Dial(WANTED)]
    assert admission.handle(PeerWanted(CAROL.peer_id), 2.1) == []
    admission.handle(DialEnded(WANTED, is_connected=True), 2.2)
    assert Unreached(CAROL.peer_id) not in admit(admission, CAROL, 9, 2.3)
    assert dials_until(admission, 10.0) == []


def test_who_is_wanted_and_not_found_is_said_to_be_so_once() -> None:
    admission = door_that_knows_carol()
    admission.handle(PeerWanted(CAROL.peer_id), 2.0)
    admission.handle(PeerWanted(CAROL.peer_id), 2.1)
    ended = DialEnded(WANTED, is_connected=False)
    assert admission.handle(ended, 2.2) == [Unreached(CAROL.peer_id)]
    assert Unreached(CAROL.peer_id) not in admission.handle(TimerFired(), 2.0 + FIND_TIME_MAX)


def test_who_is_wanted_is_not_waited_for_longer_than_a_caller_may_wait() -> None:
    admission = door_that_knows_carol()
    admission.handle(PeerWanted(CAROL.peer_id), 2.0)
    now = 2.0
    while (now := max(now, admission.next_wake())) < 2.0 + FIND_TIME_MAX:
        assert Unreached(CAROL.peer_id) not in admission.handle(TimerFired(), now)
    assert Unreached(CAROL.peer_id) in admission.handle(TimerFired(), now)


def test_a_member_is_not_waited_for_and_nothing_is_left_behind() -> None:
    admission = door(BOB)
    admit(admission, CAROL, 1)
    assert admission.handle(PeerWanted(CAROL.peer_id), 1.0) == []
    admission.handle(ByeReceived(CAROL.peer_id, ControlId(1), Bye(hello.ENOUGH)), 7.0)
    assert admission.handle(Disconnected(CAROL.peer_id), 7.0) == []
    assert Unreached(CAROL.peer_id) not in admission.handle(TimerFired(), 1.0 + FIND_TIME_MAX)


def test_who_says_goodbye_with_a_word_of_a_later_version_is_not_called_back_at_once() -> None:
    admission = door(BOB)
    admit(admission, CAROL, 1)
    admission.handle(ByeReceived(CAROL.peer_id, ControlId(1), Bye("a later word")), 7.0)
    admission.handle(Disconnected(CAROL.peer_id), 7.0)
    assert dials_until(admission, 60.0)[0][0] >= 7.0 + CONFIG.away_delay / 2


def test_a_feeler_goes_out_although_more_neighbours_are_wanted() -> None:
    """Otherwise whoever keeps us busy with inventions keeps us from it as well."""
    admission = door(BOB)
    admit(admission, DAVE, 2)
    address = PeerAddress(CAROL.peer_id, "/memory/1")
    admission.handle(AddressesFound((address,), Origin.KEPT), 0.0)
    admission.handle(DialEnded(address, is_connected=False), 0.1)
    for place in admission.book._peers[CAROL.peer_id].places.values():
        place.due_at = inf
    admission.book._file(CAROL.peer_id)
    assert (address.peer) in [dialled.peer for _, dialled in dials_until(admission, 60.0)]


def test_a_connection_that_comes_to_nothing_is_not_waited_for() -> None:
    admission = door_that_knows_carol()
    admission.handle(PeerWanted(CAROL.peer_id), 2.0)
    admission.handle(DialEnded(WANTED, is_connected=True), 2.1)
    admission.handle(Connected(CAROL.peer_id), 2.1)
    assert Unreached(CAROL.peer_id) in admission.handle(Disconnected(CAROL.peer_id), 2.2)


def test_a_peer_nobody_knows_is_wanted_in_vain() -> None:
    assert door().handle(PeerWanted(DAVE.peer_id), 1.0) == [Unreached(DAVE.peer_id)]


def test_not_everybody_can_be_waited_for_at_once() -> None:
    admission = crowded_door(2)
    places = tuple(PeerAddress(PeerId(f"{number}"), "/memory/1") for number in range(AWAITED_MAX + 1))
    admission.handle(AddressesFound(places, Origin.KEPT), 1.0)
    effects = [effect for place in places for effect in admission.handle(PeerWanted(place.peer), 2.0)]
    assert effects[-1] == Unreached(places[-1].peer)
    assert sum(isinstance(effect, Unreached) for effect in effects) == 1


def test_a_node_that_goes_looks_for_nobody() -> None:
    admission = door_that_knows_carol()
    admission.handle(PeerWanted(CAROL.peer_id), 2.0)
    assert Unreached(CAROL.peer_id) in admission.handle(LeaveDecided(hello.AWAY), 2.1)
    assert admission.handle(PeerWanted(CAROL.peer_id), 2.2) == [Unreached(CAROL.peer_id)]


def test_a_node_that_goes_says_goodbye_to_all_and_dials_nobody() -> None:
    admission = door()
    admit(admission, CAROL, 1)
    admit(admission, DAVE, 2)
    effects = admission.handle(LeaveDecided(hello.AWAY), 1.0)
    assert {effect.peer for effect in effects if isinstance(effect, Disconnect)} == {
        CAROL.peer_id,
        DAVE.peer_id,
    }
    assert admission.members == {}
    address = PeerAddress(ALICE.peer_id, "/memory/9")
    assert admission.handle(AddressesFound((address,), Origin.NEARBY), 2.0) == []
    assert admission.handle(Connected(ALICE.peer_id), 2.0) == [
        Disconnect(ALICE.peer_id, None, Bye(hello.AWAY))
    ]


def test_a_member_whose_connection_broke_is_dialled_again_soon() -> None:
    admission = door()
    admit(admission, CAROL, 1)
    effects = admission.handle(Disconnected(CAROL.peer_id), 1.0)
    assert [type(effect) for effect in effects] == [PeerLost]
    assert admission.next_wake() < 3.0


def test_what_a_dismissed_peer_still_says_does_not_count() -> None:
    admission = door()
    admit(admission, CAROL, 1)
    admission.handle(RuleBroken(CAROL.peer_id, ControlId(1), "nonsense"), 1.0)
    assert admission.handle(says_hello(CAROL, 1), 1.1) == []
    assert admission.handle(ControlOpened(CAROL.peer_id, ControlId(2)), 1.1) == [CloseControl(ControlId(2))]


def test_nothing_is_kept_of_peers_that_came_and_went() -> None:
    admission = door()
    for number in range(50):
        who = identity(f"visitor {number}")
        admission.handle(Connected(who.peer_id), float(number))
        admission.handle(ControlOpened(who.peer_id, ControlId(number)), float(number))
        admission.handle(Disconnected(who.peer_id), float(number))
        admission.handle(ControlOpened(who.peer_id, ControlId(100 + number)), float(number))
        admission.handle(ControlEnded(who.peer_id, ControlId(100 + number)), float(number))
    assert admission.next_wake() == inf
    assert admission._guests == {}
