"""Who may send its next piece: a few at once, the others in turn, all together no faster than allowed."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from p2p.blobs.upload import PIECE_SIZE, PIECE_SIZE_FAST, Upload, UploadLimits
from p2p.peer import PeerId

A, B, C, D, E, F = (PeerId(name) for name in "abcdef")
PIECE = 64 * 1024


def upload(**limits: float) -> Upload:
    return Upload(UploadLimits(**{"slots": 2, "turn": 1.0, "busy_rate": 0.0, **limits}))  # type: ignore[arg-type]


def due(core: Upload, now: float = 0.0, *, is_inference_busy: bool = False) -> list[PeerId]:
    return core.due(now, is_inference_busy=is_inference_busy)


def test_who_comes_while_a_slot_is_free_may_send_at_once() -> None:
    core = upload()
    core.want(A, PIECE, 0)
    core.want(B, PIECE, 0)
    assert due(core) == [A, B]
    assert due(core) == []
    assert core.wake_at == math.inf


def test_no_more_are_served_at_once_than_there_are_slots() -> None:
    core = upload()
    for peer in (A, B, C):
        core.want(peer, PIECE, 0)
    assert due(core) == [A, B]
    assert [core.has_slot(peer) for peer in (A, B, C)] == [True, True, False]
    assert core.peers() == {A, B, C}
    core.leave(A, 0)
    assert core.peers() == {B, C}


def test_who_has_a_slot_goes_on_while_others_wait() -> None:
    core = upload()
    for peer in (A, B, C):
        core.want(peer, PIECE, 0)
    due(core)
    core.want(A, PIECE, 0.5)
    assert due(core, 0.5) == [A]


def test_the_slot_of_who_has_nothing_to_send_goes_to_the_next() -> None:
    core = upload()
    for peer in (A, B, C, D):
        core.want(peer, PIECE, 0)
    due(core)
    core.leave(A, 0.1)
    assert due(core, 0.1) == [C]
    core.leave(D, 0.2)
    core.leave(B, 0.3)
    assert due(core, 0.3) == []


def test_a_turn_ends_when_another_waits() -> None:
    core = upload()
    core.want(A, PIECE, 0)
    core.want(B, PIECE, 0.5)
    core.want(C, PIECE, 0.5)
    assert due(core, 0.5) == [A, B]
    assert core.wake_at == 1.0
    core.want(A, PIECE, 1.0)
    assert due(core, 1.0) == [C]
    assert not core.has_slot(A)
    assert core.has_slot(B)


def test_a_turn_does_not_end_while_nobody_waits() -> None:
    core = upload()
    core.want(A, PIECE, 0)
    core.want(B, PIECE, 0)
    due(core)
    core.want(A, PIECE, 99.0)
    assert due(core, 99.0) == [A]
    assert core.wake_at == math.inf


def test_who_does_not_read_keeps_its_slot_for_one_turn_only() -> None:
    """A was told to send and never comes back: the others take its slot too."""
    core = upload()
    core.want(A, PIECE, 0)
    assert due(core) == [A]
    core.want(B, PIECE, 0)
    core.want(C, PIECE, 0)
    assert due(core) == [B]
    assert due(core, 1.0) == [C]
    core.want(A, PIECE, 50.0)
    core.want(D, PIECE, 50.0)
    assert due(core, 50.0) == [A, D], "it reads again, and waits like everybody"


def test_everybody_gets_a_turn() -> None:
    core = upload()
    sent: Counter[PeerId] = Counter()
    for peer in (A, B, C, D, E):
        core.want(peer, PIECE, 0)
    for step in range(2000):
        now = step / 100
        for peer in due(core, now):
            sent[peer] += 1
            core.want(peer, PIECE, now)
    assert len(sent) == 5
    assert max(sent.values()) <= 1.2 * min(sent.values())


def test_pieces_go_round_between_those_with_a_slot() -> None:
    core = upload(rate=1e6)
    core.want(A, PIECE, 0)
    core.want(B, PIECE, 0)
    order = []
    for _ in range(20):
        for peer in due(core, now := core.wake_at if core.wake_at < math.inf else 0):
            order.append(peer)
            core.want(peer, PIECE, now)
    assert order[:8] in ([A, B] * 4, [B, A] * 4)


@pytest.mark.parametrize("rate", [1e5, 20e6, 100e6])
def test_all_together_keep_to_the_rate(rate: float) -> None:
    core = upload(rate=rate)
    core.want(A, PIECE, 0)
    core.want(B, PIECE, 0)
    sent, now = 0, 0.0
    while now < 20:
        for peer in due(core, now):
            sent += PIECE
            core.want(peer, PIECE, now)
        now = max(core.wake_at, now)
    assert 0.97 * rate <= sent / 20 <= 1.03 * rate + 2 * PIECE / 20


def test_a_node_that_infers_gives_less_and_more_again_afterwards() -> None:
    core = upload(busy_rate=1e6)
    core.want(A, 10 * PIECE, 0)
    assert due(core, 0) == [A]
    core.want(A, PIECE, 1)
    assert due(core, 1, is_inference_busy=True) == [A], "what was sent before is no debt"
    core.want(A, PIECE, 1)
    assert due(core, 1, is_inference_busy=True) == []
    assert 1 < core.wake_at < 1.1
    assert due(core, 1.01) == [A]


def test_the_lower_of_two_limits_holds() -> None:
    assert UploadLimits(rate=5, busy_rate=9).rate_now(is_inference_busy=True) == 5
    assert UploadLimits(rate=9, busy_rate=5).rate_now(is_inference_busy=True) == 5
    assert UploadLimits(rate=0, busy_rate=5).rate_now(is_inference_busy=True) == 5
    assert UploadLimits(rate=9, busy_rate=0).rate_now(is_inference_busy=True) == 9
    assert UploadLimits(rate=9, busy_rate=5).rate_now(is_inference_busy=False) == 9
    assert UploadLimits(rate=0, busy_rate=0).rate_now(is_inference_busy=True) == 0


def test_pieces_are_large_only_where_nobody_is_to_notice_them() -> None:
    assert UploadLimits().piece_size(is_inference_busy=False) == PIECE_SIZE_FAST
    assert UploadLimits(rate=20e6).piece_size(is_inference_busy=False) == PIECE_SIZE_FAST
    assert UploadLimits(rate=1e6).piece_size(is_inference_busy=False) == PIECE_SIZE
    assert UploadLimits(busy_rate=0).piece_size(is_inference_busy=True) == PIECE_SIZE


def test_nothing_is_kept_of_who_left() -> None:
    core = upload(rate=1.0)
    for peer in (A, B, C, D):
        core.want(peer, PIECE, 0)
    due(core)
    for peer in (A, B, C, D):
        core.leave(peer, 0)
    assert core == Upload(core.limits, _allowance=core._allowance)
    assert core.wake_at == math.inf
