"""The backend of this node behind its slot gate: what peers' fronts and our own ask.

gated = GatedBackend(worker, load)
gated.for_front(peer).infer(request)        # Refused: busy, at once
nursery.start_soon(gated.run)               # takes back offers that nobody came for
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

import trio

from federation.backend import Answer, InferenceRequest, Infers, slots_of
from federation.errors import Refused
from federation.model_reference import ModelReference
from federation.slot_gate import Offer, SlotGate
from ledger.records import Load, ModelName
from p2p.peer import PeerId

_REST = 2.0
"""Seconds for which a slot is left alone that the gate believed to be free and its worker did not: a server
of another program has clients of its own. Offered again at once, it would be refused again at once."""


def _ignore_change() -> None:
    pass


class GatedBackend:
    """`backend`, shared by fronts in turn. `loads`: how busy it says that each of its models is."""

    def __init__(self, backend: Infers, loads: Callable[[], Mapping[ModelName, Load]]) -> None:
        self.on_change: Callable[[], None] = _ignore_change
        """Called when `loads` may have changed. It must not raise."""
        self._backend = backend
        self._loads = loads
        self._gate = SlotGate(self._slots_total)
        self._fronts: dict[PeerId, Callable[[ModelName], None]] = {}
        """How those are told that can be: as many as have a connection to us."""
        self._sooner = trio.Event()

    def for_front(self, front: PeerId) -> Infers:
        """The backend as `front` sees it."""
        return _AsSeen(partial(self._infer, front))

    def loads(self) -> Mapping[ModelName, Load]:
        """How busy each model is: a slot that is held, or waits for its model to be loaded, is taken."""
        return {
            model: replace(load, slots_busy=max(load.slots_busy, self._gate.taken(model)))
            for model, load in self._loads().items()
        }

    def load(self, model: ModelName) -> Load | None:
        """Of the model that `model` refers to."""
        return self.loads().get(ModelReference.parse(model).name)

    def wait(self, front: PeerId, model: ModelName, wanted: int) -> None:
        """`front` waits for so many slots of `model` from now on; 0: for none."""
        # What is made up is not remembered.
        if model in self._loads():
            self._carry_out(self._gate.wait(front, model, wanted, trio.current_time()))

    def meet(self, front: PeerId, on_offer: Callable[[ModelName], None]) -> None:
        """`front` can be told of offers from now on. `on_offer` must not raise."""
        self._gate.meet(front)
        self._fronts[front] = on_offer

    def lose(self, front: PeerId) -> None:
        """`front` cannot be told of offers any more."""
        self._fronts.pop(front, None)
        self._carry_out(self._gate.lose(front, trio.current_time()))

    async def run(self) -> None:
        """Until cancelled, offer to the next what nobody came for."""
        while True:
            self._sooner = trio.Event()
            with trio.move_on_at(self._gate.wake_at) as timer:
                await self._sooner.wait()
            if timer.cancelled_caught:
                self._carry_out(self._gate.on_time(trio.current_time()))

    @asynccontextmanager
    async def _infer(self, front: PeerId, request: InferenceRequest) -> AsyncIterator[Answer]:
        model, slots = ModelReference.parse(request.model).name, slots_of(request)
        if not slots or model not in self._loads():
            async with self._backend.infer(request) as answer:
                yield answer
            return
        has_entered = self._gate.enter(front, model, slots, trio.current_time())
        self._sooner.set()
        if not has_entered:
            raise Refused("busy", f"every slot for {model} is taken", load=self.load(model))
        self.on_change()
        rests_for = 0.0
        try:
            async with self._backend.infer(request) as answer:
                yield answer
        except Refused as error:
            rests_for = _REST if error.reason == "busy" else 0.0
            raise
        finally:
            now = trio.current_time()
            self._carry_out(self._gate.leave(model, slots, now, rests_for=rests_for))

    def _slots_total(self, model: ModelName) -> int:
        load = self._loads().get(model)
        return load.slots_total if load else 0

    def _carry_out(self, offers: Iterable[Offer]) -> None:
        for offer in offers:
            self._fronts[offer.front](offer.model)
        self._sooner.set()
        self.on_change()


@dataclass(frozen=True, slots=True)
class _AsSeen:
    infer: Callable[[InferenceRequest], AbstractAsyncContextManager[Answer]]
