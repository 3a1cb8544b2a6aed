"""The backend behind its gate: fronts are refused at once, and offered what frees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from federation.errors import Failed, Refused
from federation.gated_backend import GatedBackend
from federation.slot_gate import HELD_FOR
from ledger.records import Load, ModelName
from p2p.peer import PeerId

if TYPE_CHECKING:
    from tests.federation.conftest import Stage, StubBackend

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")
SLOTS = 2


@dataclass
class Gated:
    """A stub behind a gate, and what fronts were offered."""

    worker: StubBackend
    backend: GatedBackend = field(init=False)
    offered: list[PeerId] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.backend = GatedBackend(self.worker, self.loads)
        for front in (A, B, C):
            self.backend.meet(front, partial(self._note_offer, front))

    def _note_offer(self, front: PeerId, model: ModelName) -> None:
        assert model == ModelName("tiny")
        self.offered.append(front)

    def loads(self) -> Mapping[ModelName, Load]:
        # As an engine says it: only who was accepted counts.
        return {ModelName("tiny"): Load(SLOTS, 0)}


def test_beyond_the_slots_a_front_is_refused_with_the_load(stage: Stage) -> None:
    async def main() -> None:
        gated = Gated(stage.worker(stage.WORKER, accept_after=5.0))
        async with trio.open_nursery() as nursery:
            for _ in range(SLOTS):
                nursery.start_soon(stage.read, gated.backend.for_front(A), stage.request())
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(Refused) as caught:
                await stage.read(gated.backend.for_front(B), stage.request())
            assert (caught.value.reason, caught.value.load) == ("busy", Load(SLOTS, SLOTS))
            assert len(gated.worker.served) == SLOTS
        assert gated.backend.load(stage.MODEL) == Load(SLOTS, 1)  # Held for b.

    stage.run(main)


def test_what_takes_no_slot_passes_and_other_models_are_not_counted(stage: Stage) -> None:
    async def main() -> None:
        gated = Gated(stage.worker(stage.WORKER, gap=1.0))
        async with trio.open_nursery() as nursery:
            for _ in range(SLOTS):
                nursery.start_soon(stage.read, gated.backend.for_front(A), stage.request())
            await trio.testing.wait_all_tasks_blocked()
            await stage.read(gated.backend.for_front(A), stage.request(kind="tokenize"))
            await stage.read(gated.backend.for_front(A), stage.request(model=ModelName("tiny-too")))

    stage.run(main)


@pytest.mark.parametrize("how", ["done", "failed", "cancelled", "refused"])
def test_a_slot_is_offered_however_its_request_ended(stage: Stage, how: str) -> None:
    async def main() -> None:
        worker = stage.worker(stage.WORKER, gap=1.0)
        gated = Gated(worker)
        if how == "failed":
            worker.failure, worker.failure_at = Failed("died"), 1
        if how == "refused":
            worker.accept_after, worker.refusal = 1.0, Refused("model_failed", "no")

        async def ask() -> None:
            with trio.move_on_after(1.5 if how == "cancelled" else 60):
                try:
                    await stage.read(gated.backend.for_front(A), stage.request())
                except (Failed, Refused):
                    return

        async with trio.open_nursery() as nursery:
            for _ in range(SLOTS):
                nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            for front in (B, C, B):
                with pytest.raises(Refused):
                    await stage.read(gated.backend.for_front(front), stage.request())
            assert gated.offered == []
        assert gated.offered == [B, C]

    stage.run(main)


def test_an_offer_that_nobody_comes_for_goes_to_the_next_in_time(stage: Stage) -> None:
    async def main() -> None:
        gated = Gated(stage.worker(stage.WORKER, gap=1.0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gated.backend.run)
            async with trio.open_nursery() as asking:
                for _ in range(SLOTS):
                    asking.start_soon(stage.read, gated.backend.for_front(A), stage.request())
                await trio.testing.wait_all_tasks_blocked()
                gated.backend.wait(B, stage.MODEL, 2)
                gated.backend.wait(C, stage.MODEL, 1)
            assert gated.offered == [B, C]
            # c comes, and b does not: what was b's is free for whoever asks.
            async with gated.backend.for_front(C).infer(stage.request()):
                with pytest.raises(Refused):
                    await stage.read(gated.backend.for_front(A), stage.request())
                await trio.sleep(HELD_FOR + 0.001)
                assert gated.offered == [B, C, B]
                await trio.sleep(HELD_FOR + 0.001)
                await stage.read(gated.backend.for_front(A), stage.request())
            nursery.cancel_scope.cancel()

    stage.run(main)


def test_a_name_that_is_made_up_is_not_remembered(stage: Stage) -> None:
    gated = Gated(stage.worker(stage.WORKER))
    gated.backend.wait(A, ModelName("made up"), 5)
    assert gated.backend._gate._models == {}


def test_a_slot_that_the_worker_does_not_have_is_left_alone_for_a_while(stage: Stage) -> None:
    async def main() -> None:
        gated = Gated(stage.worker(stage.WORKER, refusal=Refused("busy", "others use it too")))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gated.backend.run)
            gated.backend.wait(B, stage.MODEL, SLOTS)
            await trio.sleep(HELD_FOR / 2)
            for _ in range(SLOTS):
                with pytest.raises(Refused):
                    await stage.read(gated.backend.for_front(B), stage.request())
            gated.backend.wait(B, stage.MODEL, SLOTS)
            await trio.sleep(1)
            assert gated.backend.load(stage.MODEL) == Load(SLOTS, SLOTS)
            assert gated.offered == [B] * SLOTS
            await trio.sleep(1.1)
            assert gated.offered == [B] * 2 * SLOTS
            nursery.cancel_scope.cancel()

    stage.run(main)
