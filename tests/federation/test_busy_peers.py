"""A peer that refused us is asked again when there is news of it, and as often as it has slots."""

from __future__ import annotations

import math

from federation.busy_peers import BusyPeers
from federation.slot_gate import REMEMBERED_FOR
from ledger.records import Load, ModelName
from p2p.peer import PeerId

PEER, OTHER, MODEL = PeerId("a"), PeerId("b"), ModelName("tiny")


def refused(load: Load | None = None) -> BusyPeers:
    busy = BusyPeers()
    busy.refused(PEER, MODEL, 1, load, 0.0)
    return busy


def test_who_never_refused_may_be_asked() -> None:
    busy = refused()
    assert busy.may_ask(OTHER, MODEL, 4, 0.0)
    assert busy.may_ask(PEER, ModelName("other"), 4, 0.0)
    assert not busy.may_ask(PEER, MODEL, 1, 0.0)


def test_without_news_it_is_asked_again_when_it_has_forgotten_us() -> None:
    busy = refused()
    assert not busy.may_ask(PEER, MODEL, 1, REMEMBERED_FOR - 0.1)
    assert busy.may_ask(PEER, MODEL, 1, REMEMBERED_FOR)
    assert busy.asked_again_in([PEER, OTHER], MODEL, 4.0) == REMEMBERED_FOR - 4.0
    assert busy.asked_again_in([OTHER], MODEL, 4.0) == math.inf


def test_as_long_as_there_is_news_of_it_it_is_not_asked_without() -> None:
    busy = refused()
    for second in range(1, 60):
        if second % 2:
            busy.offered(PEER, MODEL, float(second))
            busy.asked(PEER, MODEL, 1)
        else:
            busy.seen(PEER, MODEL, Load(4, 4, queued=second), float(second))
        assert not busy.may_ask(PEER, MODEL, 1, second + REMEMBERED_FOR - 0.1)
    assert busy.may_ask(PEER, MODEL, 1, 59 + REMEMBERED_FOR)


def test_each_offer_is_good_for_one_request() -> None:
    busy = refused()
    busy.offered(PEER, MODEL, 0.0)
    busy.offered(PEER, MODEL, 0.0)
    for _ in range(2):
        assert busy.may_ask(PEER, MODEL, 1, 0.0)
        busy.asked(PEER, MODEL, 1)
    assert not busy.may_ask(PEER, MODEL, 1, 0.0)


def test_what_was_known_when_it_refused_is_no_news() -> None:
    stale = Load(4, 1)
    busy = refused(stale)
    busy.seen(PEER, MODEL, stale, 0.0)
    assert not busy.may_ask(PEER, MODEL, 1, 0.0)
    busy.seen(PEER, MODEL, Load(4, 4), 0.0)
    assert not busy.may_ask(PEER, MODEL, 1, 0.0)
    busy.seen(PEER, MODEL, stale, 0.0)
    assert busy.may_ask(PEER, MODEL, 3, 0.0)
    assert not busy.may_ask(PEER, MODEL, 4, 0.0)


def test_what_is_free_is_used_up_after_what_is_offered() -> None:
    busy = refused()
    busy.offered(PEER, MODEL, 0.0)
    busy.seen(PEER, MODEL, Load(4, 3), 0.0)
    busy.asked(PEER, MODEL, 1)
    busy.seen(PEER, MODEL, Load(4, 4), 0.0)
    assert not busy.may_ask(PEER, MODEL, 1, 0.0)


def test_who_refuses_again_has_nothing_for_us() -> None:
    busy = refused()
    busy.offered(PEER, MODEL, 0.0)
    busy.refused(PEER, MODEL, 1, None, 5.0)
    assert not busy.may_ask(PEER, MODEL, 1, REMEMBERED_FOR)
    assert busy.may_ask(PEER, MODEL, 1, 5.0 + REMEMBERED_FOR)


def test_what_is_remembered_is_bounded_and_forgotten_in_time() -> None:
    busy = BusyPeers()
    for number in range(5000):
        busy.refused(PeerId(str(number)), MODEL, 1, None, 0.0)
    assert len(busy._refusals) == 1024
    busy.refused(PEER, MODEL, 1, None, REMEMBERED_FOR)
    assert len(busy._refusals) == 1


def test_who_was_refused_several_slots_may_leave_some_for_those_that_need_one() -> None:
    busy = BusyPeers()
    busy.refused(PEER, MODEL, 4, Load(4, 1), 0.0)
    assert busy.may_ask(PEER, MODEL, 3, 0.0)
    assert not busy.may_ask(PEER, MODEL, 4, 0.0)
    # It was shown as free before it refused two of them: so one at most.
    busy.refused(PEER, MODEL, 2, Load(4, 0), 0.0)
    assert busy.may_ask(PEER, MODEL, 1, 0.0)
    assert not busy.may_ask(PEER, MODEL, 2, 0.0)
