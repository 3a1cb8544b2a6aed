"""One attached server as a backend: its models, its health, its slots, its answers.

    [ looks ] every few seconds --> models, slots, or what is wrong     survey.py
    infer     --> a slot --> [ exchange ] --> events                    exchange.py, answer_feed.py

A server that is down keeps its models, as failed, so that people see why; requests for them are refused at
once, and other peers are asked. It is looked at ever more rarely then, and serves again once it answers.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager

import trio

from federation.backend import SLOTLESS_KINDS, Answer, InferenceRequest, ModelInfo
from federation.errors import BadRequest, Failed, Refused
from federation.model_reference import ModelReference
from ledger.records import Load, ModelName, ModelRecord, ModelState
from node.attached.answer_feed import AnswerFeed
from node.attached.dialect import OTHER
from node.attached.errors import BadAnswer, StillLoading, Unusable
from node.attached.exchange import UNREAD_MAX, Exchange, Said
from node.attached.model_list import AttachedModel, Survey
from node.attached.request_body import may_call, require_no_resume
from node.attached.server_client import ServerClient
from node.attached.server_url import ServerUrl
from node.attached.survey import Surveyor
from node.engine_request import require_servable
from node.speeds import Speeds
from p2p.peer import PeerId

logger = logging.getLogger(__name__)

LOOK_INTERVAL = 5.0
"""Seconds between two looks at a server that is well: as long as a model that was pulled stays unknown."""

LOOK_TIMEOUT = 5.0
"""Seconds for one look. Its questions take milliseconds; a machine that swaps takes longer."""

BACK_OFF_MAX = 30.0
"""Seconds between two looks at a server that is down: as long as its return may go unnoticed."""

_FIRST_BACK_OFF = 1.0

FIRST_LOOK_TIMEOUT = 1.0
"""Seconds that the start of a node waits for the first look, so that it can say what it serves."""

MISSES_MAX = 3
"""Looks in a row without an answer after which a server hangs. One alone says that it is busy."""

_LOOK_PAUSE = 0.5
"""Seconds at least between two looks, whatever fails meanwhile."""

_NO_PROMPT = bytes(32)
"""Instead of the hash of the prompt's token ids, which nobody tells us."""


def _ignore_change() -> None:
    pass


class AttachedServer:
    """A `Backend` over one server. One task `run`s it."""

    def __init__(self, me: PeerId, url: ServerUrl, *, key: str = "", slots: int | None = None) -> None:
        """`slots`: answers at once, whatever the server says; None: as it says, else as is usual for it."""
        self.on_change: Callable[[], None] = _ignore_change
        """Called when what `model_records` returns may have changed. It must not raise."""
        self.url = url
        self._me = me
        self._client = ServerClient(url, key)
        self._surveyor = Surveyor(self._client)
        self._slots_given = slots
        self._survey = Survey(OTHER)
        self._models: Mapping[ModelName, AttachedModel] = {}
        self._trouble = f"{url} was not looked at yet"
        """Why it serves nothing; empty while it does."""
        self._trouble_state: ModelState = "loading"
        self._misses = 0
        self._failures = 0
        """Looks in a row that found it down."""
        self._look_soon = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._is_draining = False
        self._running: Counter[ModelName] = Counter()
        self._exchanges: set[trio.CancelScope] = set()
        self._request_ended = trio.lowlevel.ParkingLot()
        self._speeds: defaultdict[ModelName, Speeds] = defaultdict(Speeds)
        """As answers showed; of the models it has now."""
        self._told: set[str] = set()
        """Warnings that hold now: each is said once."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Then every connection is closed."""
        async with self._client, trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                with trio.move_on_after(FIRST_LOOK_TIMEOUT):
                    await self._look()
                task_status.started()
                while True:
                    await self._wait_for_look()
                    await self._look()
            finally:
                self._nursery = None

    def models(self) -> Sequence[ModelInfo]:
        """Every model of the server, sorted by name; those of one that is down as failed."""
        return [model.info(self._trouble, self._trouble_state) for model in self._models.values()]

    def model_records(self) -> list[ModelRecord]:
        """The same for the ledger."""
        return [
            ModelRecord(
                name=model.name,
                state=self._trouble_state if self._trouble else model.state,
                capabilities=model.capabilities,
                context_size=model.context_size,
                size_bytes=model.size_bytes,
                slots=self._slots_total,
                reason=self._trouble,
                program=self._survey.dialect.name,
            )
            for model in self._models.values()
        ]

    def load(self) -> Mapping[ModelName, Load]:
        """How busy each model is now, with what this node asks of it."""
        return {name: self._load(model) for name, model in self._models.items()}

    async def drain(self) -> None:
        """Refuse new requests from now on, and wait until none runs. Bound it with a timeout.

        Cancelled: running ones go on, and new ones are still refused.
        """
        self._is_draining = True
        # All of them: what takes no slot runs too.
        while self._exchanges:
            await self._request_ended.park()

    @asynccontextmanager
    async def infer(self, request: InferenceRequest) -> AsyncIterator[Answer]:
        """Have the server serve `request`. Entering returns with its first words, or when it took its time.

        Raises:
          BadRequest: it is wrong, or asks for what this server does not take; names the parameter.
          Refused: this server cannot serve it now.
          Failed: it gave no answer that could be read.
          DeadlineExceeded: its time was over before it was accepted.
        """
        model = self._find(request.model)
        require_servable(request)
        require_no_resume(request, self._survey.dialect)
        if may_call(request) and not model.takes_tools:
            raise BadRequest(f"the chat template of {model.name} knows no tools", param="tools")
        dialect = self._survey.dialect
        exchange = Exchange(self._client, request, model.id, dialect, lambda: self._load(model))
        deadline = trio.current_time() + request.timeout
        with self._slot(model, needs_slot=request.kind not in SLOTLESS_KINDS):
            async with self._carried_out(exchange) as said:
                feed = AnswerFeed(said, deadline, self._speeds[model.name], lambda: self._trouble)
                try:
                    await feed.begin()
                except (Refused, Failed):
                    # Mostly it is full. If it is gone, nobody shall be sent to it for long.
                    self._look_soon.set()
                    raise
                yield Answer(self._me, _NO_PROMPT, 0, feed)

    @asynccontextmanager
    async def _carried_out(self, exchange: Exchange) -> AsyncIterator[trio.MemoryReceiveChannel[Said]]:
        """What comes of `exchange`, which ends with the block."""
        if self._nursery is None:
            raise Refused("draining", "this node is starting or stopping")
        sender, said = trio.open_memory_channel[Said](UNREAD_MAX)
        scope, ended = trio.CancelScope(), trio.Event()
        self._nursery.start_soon(self._carry_out, exchange, sender, scope, ended)
        try:
            yield said
        finally:
            scope.cancel()
            # Shielded, and short: a connection is closed. The slot is not free before.
            with trio.CancelScope(shield=True):
                await ended.wait()
            said.close()

    async def _carry_out(
        self,
        exchange: Exchange,
        sender: trio.MemorySendChannel[Said],
        scope: trio.CancelScope,
        ended: trio.Event,
    ) -> None:
        self._exchanges.add(scope)
        try:
            with scope:
                await exchange.run(sender)
        finally:
            sender.close()
            self._exchanges.discard(scope)
            self._request_ended.unpark_all()
            ended.set()

    def _find(self, reference: ModelName) -> AttachedModel:
        """The model that `reference` means."""
        if self._is_draining:
            raise Refused("draining", "this node is draining and takes no new requests")
        wanted = ModelReference.parse(reference)
        model = self._models.get(wanted.name)
        if model is None:
            raise Refused("no_such_model", f"{self.url} has no model {wanted.name}")
        if not wanted.is_met_by(model.name, ""):
            raise Refused("no_such_model", f"nobody knows which file {wanted.name} at {self.url} is")
        if self._trouble:
            raise Refused("loading" if self._trouble_state == "loading" else "model_failed", self._trouble)
        return model

    @contextmanager
    def _slot(self, model: AttachedModel, *, needs_slot: bool) -> Iterator[None]:
        """Hold one of the server's slots."""
        if not needs_slot:
            yield
            return
        if self._busy(model) >= self._slots:
            at_once = "one answer" if self._slots == 1 else f"{self._slots} answers"
            raise Refused(
                "busy",
                f"{self._survey.dialect.name} gives {at_once} at once, and all are taken",
                load=self._load(model),
            )
        self._running[model.name] += 1
        try:
            yield
        finally:
            self._running[model.name] -= 1
            if not self._running[model.name]:
                del self._running[model.name]
            self._request_ended.unpark_all()

    @property
    def _slots(self) -> int:
        return self._slots_given or self._survey.slots or self._survey.dialect.slots

    @property
    def _slots_total(self) -> int:
        return 0 if self._trouble and self._trouble_state == "failed" else self._slots

    def _busy(self, model: AttachedModel) -> int:
        if self._survey.dialect.has_slots_per_model:
            return self._running[model.name]
        return self._running.total()

    def _load(self, model: AttachedModel) -> Load:
        speeds = self._speeds[model.name]
        return Load(
            self._slots_total,
            self._busy(model),
            0,
            speeds.prefill,
            speeds.decode,
            is_loaded=not self._trouble and model.state == "loaded",
        )

    async def _wait_for_look(self) -> None:
        self._look_soon = trio.Event()
        pause = LOOK_INTERVAL
        if self._trouble:
            pause = min(_FIRST_BACK_OFF * 2 ** min(self._failures, 10), BACK_OFF_MAX)
        began_at = trio.current_time()
        with trio.move_on_after(pause):
            await self._look_soon.wait()
        await trio.sleep_until(began_at + _LOOK_PAUSE)

    async def _look(self) -> None:
        """See how the server is. Cancelled: what was known of it still holds."""
        before = self.models()
        try:
            with trio.fail_after(LOOK_TIMEOUT):
                survey = await self._surveyor.look()
        except trio.TooSlowError:
            self._note_silence()
        except StillLoading as error:
            self._note_trouble(str(error), "loading")
        except Unusable as error:
            self._note_trouble(str(error), "failed")
        except BadAnswer as error:
            self._note_trouble(f"{self.url} cannot be used: {error}", "failed")
        else:
            self._note_survey(survey)
        if self.models() != before:
            self.on_change()

    def _note_survey(self, survey: Survey) -> None:
        if self._trouble:
            logger.info("%s at %s serves %s models", survey.dialect.name, self.url, len(survey.models))
        self._misses = self._failures = 0
        self._trouble = ""
        self._survey = survey
        self._models = {model.name: model for model in survey.models}
        for name in self._speeds.keys() - self._models.keys():
            del self._speeds[name]
        for warning in survey.left_out:
            if warning not in self._told:
                logger.warning("%s: %s", self.url, warning)
        self._told = set(survey.left_out)

    def _note_trouble(self, trouble: str, state: ModelState) -> None:
        self._failures += 1
        self._surveyor.forget()
        if trouble != self._trouble:
            self._trouble, self._trouble_state = trouble, state
            logger.warning("%s", trouble)

    def _note_silence(self) -> None:
        if self._running.total() and not self._survey.dialect.answers_meanwhile:
            return
        self._misses += 1
        if self._misses < MISSES_MAX and self._models and not self._trouble:
            return
        self._note_trouble(
            f"the server at {self.url} does not answer within {LOOK_TIMEOUT:g} s; restart it", "failed"
        )
        # What it owes us it will not give either.
        for scope in self._exchanges:
            scope.cancel()
