"""The worker: the models of this machine, as a backend.

    infer --> the model, loaded if it was cold     served_model.py, resident_models.py
          --> messages to prompt                   chat/prompt.py
          --> checked, defaults filled in          engine_request.py
          --> a slot of its engine                 engine/engine.py

Knows no peers: a request is served here or refused, and who asked may ask another
worker. A model that cannot run is still listed, with the reason.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import trio

from federation.backend import SLOTLESS_KINDS, Answer, InferenceRequest, ModelInfo
from federation.errors import DeadlineExceeded, Refused
from federation.model_reference import ModelReference
from ledger.records import Load, ModelName, ModelRecord
from node.answer_events import answer_events, given_up_at
from node.answer_reader import AnswerReader
from node.chat.answer_parser import AnswerParser
from node.chat.preparation import MARKER_TEXTS, ModelTraits, completion_grammar, prepare_chat
from node.chat.renderer import ChatRenderer
from node.engine.engine import Engine
from node.engine.wire import CacheType, EngineRequest, GenerateRequest
from node.engine_params import engine_params
from node.engine_request import (
    completion_prompt,
    embed_request,
    engine_request,
    lookup_request,
    require_capable,
    require_servable,
)
from node.jobs.errors import JobGoesOn
from node.jobs.job import Job, JobId
from node.models.definition import ModelDefinition
from node.models.errors import UnknownModel
from node.models.model_yaml import ModelSettings
from node.resident_models import ResidentModels
from node.served_model import EstimateMemory, MakeEngine, ServedModel, estimate_from_header, make_engine
from node.store.store import Store
from node.worker_refusals import refusals
from p2p.peer import PeerId

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How the models of a worker are run, where their own settings do not say."""

    slots: int = 4
    """Answers of each model at once."""
    cache_type: CacheType = "f16"
    """Of keys and values of their contexts."""
    memory_bytes: int = 2**63
    """That all of them may take."""
    keep_alive: float = math.inf
    """Seconds that one stays in memory which nobody uses."""
    pinned: frozenset[ModelName] = frozenset()
    """Those that stay whatever happens."""


class Worker:
    """A `Backend` over the engines of this machine. One task `run`s it."""

    def __init__(
        self,
        me: PeerId,
        definitions: Iterable[ModelDefinition],
        *,
        store: Store,
        settings: WorkerSettings | None = None,
        preload: Iterable[ModelName] = (),
        make_engine: MakeEngine = make_engine,
        estimate: EstimateMemory = estimate_from_header,
    ) -> None:
        """Those in `preload` are loaded at once as far as there is room, the others when first asked for."""
        self.on_change: Callable[[], None] = lambda: None
        """Called, often, when what `model_records` returns may have changed. It must not raise."""
        self._me = me
        self._store = store
        self._settings = settings or WorkerSettings()
        self._residents = ResidentModels(self._settings.memory_bytes, self._settings.keep_alive)
        self._make_engine = make_engine
        self._estimate = estimate
        self._renderer = ChatRenderer()
        self._models = {definition.name: self._served(definition) for definition in definitions}
        pinned = [name for name, model in self._models.items() if model.is_pinned]
        self._preload = [self._models[name] for name in dict.fromkeys((*pinned, *preload))]
        self._nursery: trio.Nursery | None = None
        self._is_draining = False
        self._running: Counter[ServedModel] = Counter()
        """Requests that use a model now, or wait for it; also of models that were removed meanwhile."""
        self._request_ended = trio.lowlevel.ParkingLot()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Then no process of it is left."""
        async with self._renderer, trio.open_nursery() as nursery:
            for model in self._preload:
                await self._load_ahead(model)
            self._nursery = nursery
            # After that: they hash their files, which should be read by who loads them first.
            for model in self._models.values():
                nursery.start_soon(self._run, model)
            nursery.start_soon(self._residents.run)
            nursery.start_soon(self._renderer.get_ready)
            task_status.started()
            await trio.sleep_forever()

    def models(self) -> Sequence[ModelInfo]:
        """Every model of this machine, sorted by name, also those that failed."""
        return [self._models[name].info() for name in sorted(self._models)]

    def model_records(self) -> list[ModelRecord]:
        """The same for the ledger."""
        return [self._models[name].record() for name in sorted(self._models)]

    def monitor(self) -> dict[str, Any]:
        """The content of `/backend/monitor`."""
        return {
            "budget_bytes": self._residents.budget_bytes,
            "used_bytes": self._residents.used_bytes,
            "warning": self.warning,
            "models": [self._models[name].monitor() for name in sorted(self._models)],
        }

    @property
    def warning(self) -> str:
        """What is not well with the memory that models share; empty if all is."""
        return self._residents.warning

    def loaded_fractions(self) -> Mapping[ModelName, float]:
        """How far each model is that is being loaded, 0 to 1."""
        return {
            name: model.loaded_fraction for name, model in self._models.items() if model.state == "loading"
        }

    def jobs(self) -> Sequence[Job]:
        """Models that are being loaded, and files that are being hashed."""
        return [job for model in self._models.values() for job in model.jobs()]

    def cancel_job(self, job_id: JobId) -> bool:
        """End one of `jobs`; returns whether there is one of that id.

        What was being loaded is cold then, until somebody asks for it. A file is hashed on from where it was
        once its model is added again, or at the next start.

        Raises:
          JobGoesOn: requests wait for what is being loaded.
        """
        under_way = ((model, job) for model in self._models.values() for job in model.jobs())
        found = next(((model, job) for model, job in under_way if job.id == job_id), None)
        if found is None:
            return False
        model, job = found
        if job.kind == "hash":
            model.files.stop()
        elif waiting := self._running[model]:
            raise JobGoesOn(f"{job.model} is loaded for requests that wait for it: {waiting} do")
        else:
            self._residents.dismiss(model)
        return True

    def load(self) -> Mapping[ModelName, Load]:
        """How busy each model is now."""
        return {name: model.load() for name, model in self._models.items()}

    def add_model(self, definition: ModelDefinition) -> None:
        """Serve one more model, and load it if there is room; go on hashing it, if somebody stopped that.

        One of that name that failed, or whose file lies elsewhere now, is replaced once nothing runs on it;
        new requests wait for that.
        """
        former = self._models.get(definition.name)
        if former is not None and former.state != "failed" and former.definition.path == definition.path:
            former.files.go_on()
            if self._nursery is not None:
                self._nursery.start_soon(self._load_ahead, former)
            return
        model = self._models[definition.name] = self._served(definition)
        if self._nursery is not None:
            self._nursery.start_soon(self._run_after, former, model)
        self.on_change()

    async def remove_model(self, name: ModelName) -> None:
        """Serve a model no more: new requests are refused at once, running ones end first. Afterwards its
        file can be deleted. Cancelled while requests run: they go on, and it is served as before. Later: no.

        Raises:
          UnknownModel: there is none of that name.
        """
        model = self._models.pop(name, None)
        if model is None:
            raise UnknownModel(f"this node has no model {name}")
        self.on_change()
        try:
            await self._wait_unused(model)
        except trio.Cancelled:
            if self._models.setdefault(name, model) is not model:
                model.stop()
            self.on_change()
            raise
        await self._end(model)

    async def unload_model(self, name: ModelName) -> bool:
        """Take a model out of memory once nothing runs on it; whoever asks after that has it loaded again.

        Returns whether it was there. Cancelled: it is unloaded nevertheless.

        Raises:
          UnknownModel: there is none of that name.
        """
        model = self._models.get(name)
        if model is None:
            raise UnknownModel(f"this node has no model {name}")
        was_loaded = model.has_engine and not model.failure
        await self._residents.unload(model)
        return was_loaded

    async def drain(self) -> None:
        """Refuse new requests from now on, and wait until none runs. Bound it with a timeout.

        Cancelled: running ones go on, and new ones are still refused.
        """
        self._is_draining = True
        while self._running.total():
            await self._request_ended.park()

    @asynccontextmanager
    async def infer(self, request: InferenceRequest) -> AsyncIterator[Answer]:
        """Serve `request` here. Entering waits for memory and a model that is loading, and for nothing else.

        Raises:
          BadRequest: it is wrong wherever it goes; ContextTooLong: for this model.
          Refused: this worker cannot serve it now.
          DeadlineExceeded: its time was over before it was accepted.
        """
        model = self._find(request.model)
        require_servable(request)
        if request.is_begun:
            raise Refused("resume_mismatch", "an engine of ours goes on with a chat after token ids alone")
        deadline = trio.current_time() + request.timeout
        async with AsyncExitStack() as held:
            held.enter_context(self._at_work(model))
            # A scope of its own: from then on the events keep the deadline.
            with refusals(model, request), trio.move_on_at(deadline) as patience:
                engine = await held.enter_async_context(
                    model.use(needs_slot=request.kind not in SLOTLESS_KINDS)
                )
                require_capable(request, model.info().capabilities)
                asked, parsers = await self._prepare(request, model, engine)
                generation = await held.enter_async_context(engine.generate(asked))
            if patience.cancelled_caught:
                raise DeadlineExceeded("the request's time was over before it was accepted")
            delivered = request.resume.choices if request.resume else ()
            reader = AnswerReader(parsers, generation.resumed, delivered)
            assert self._nursery is not None, "a model that is in use is run"
            held.enter_context(given_up_at(deadline, generation, self._nursery))
            events = answer_events(request, generation.events, model.speeds, reader)
            await held.enter_async_context(aclosing(events))
            yield Answer(
                served_by=self._me,
                prompt_sha256=generation.prompt_sha256,
                prompt_tokens=generation.prompt_tokens,
                events=events,
            )

    async def _prepare(
        self, request: InferenceRequest, model: ServedModel, engine: Engine
    ) -> tuple[EngineRequest, list[AnswerParser]]:
        """What the engine is asked, and what reads each choice of a chat."""
        settings = model.definition.settings
        match request.kind:
            case "tokenize" | "detokenize":
                return lookup_request(request), []
            case "embeddings" | "rerank":
                return embed_request(request), []
            case "completion":
                grammar = await completion_grammar(request.constraint, self._renderer)
                return engine_request(request, settings, completion_prompt(request), grammar=grammar), []
            case "chat":
                return await self._prepare_chat(request, settings, engine)

    async def _prepare_chat(
        self, request: InferenceRequest, settings: ModelSettings, engine: Engine
    ) -> tuple[GenerateRequest, list[AnswerParser]]:
        facts = engine.facts
        assert facts is not None, "an engine that is ready knows its model"
        token_ids = dict(zip(facts.special_tokens, facts.special_ids, strict=True))
        traits = ModelTraits(
            settings.chat_template,
            settings.tool_format,
            token_ids={text: token_ids[text] for text in MARKER_TEXTS if text in token_ids},
        )
        chat = await prepare_chat(request, facts, traits, self._renderer)
        asked = engine_request(
            request,
            settings,
            chat.prompt.parts,
            stops=chat.prompt.stops,
            grammar=chat.grammar,
            shown=chat.shown_control_texts,
        )
        return asked, [chat.parser(choice) for choice in range(request.choices)]

    async def _run_after(self, former: ServedModel | None, model: ServedModel) -> None:
        # Not both at once: the memory may hold one only.
        if former is not None:
            await self._end(former)
        await self._load_ahead(model)
        await self._run(model)

    async def _run(self, model: ServedModel) -> None:
        """Run a model until it is ended. Who ended it may not have waited for that."""
        await model.run()
        self._residents.forget(model)

    async def _end(self, model: ServedModel) -> None:
        """End a model that gets no new requests, once nothing runs on it. Cancelled: at once."""
        try:
            await self._wait_unused(model)
        finally:
            model.stop()
        await model.wait_ended()

    async def _wait_unused(self, model: ServedModel) -> None:
        """Wait until nothing runs on a model that gets no new requests."""
        while self._running[model]:
            await self._request_ended.park()

    @contextmanager
    def _at_work(self, model: ServedModel) -> Iterator[None]:
        """Count one request that uses `model`."""
        self._running[model] += 1
        try:
            yield
        finally:
            self._running[model] -= 1
            if not self._running[model]:
                del self._running[model]
            self._request_ended.unpark_all()

    def _find(self, reference: ModelName) -> ServedModel:
        """The model that `reference` means."""
        if self._is_draining:
            raise Refused("draining", "this node is draining and takes no new requests")
        wanted = ModelReference.parse(reference)
        model = self._models.get(wanted.name)
        if model is None:
            raise Refused("no_such_model", f"this node has no model {wanted.name}")
        if not wanted.is_met_by(model.definition.name, model.sha256):
            raise Refused("no_such_model", f"the file of {wanted.name} on this node is another one")
        return model

    def _served(self, definition: ModelDefinition) -> ServedModel:
        settings = self._settings
        model = ServedModel(
            definition,
            engine_params(str(definition.path), definition.settings, settings.slots, settings.cache_type),
            residents=self._residents,
            store=self._store,
            on_change=lambda: self._note_change(model),
            make_engine=self._make_engine,
            estimate=self._estimate,
            is_pinned=definition.name in settings.pinned or definition.settings.pinned is True,
        )
        return model

    async def _load_ahead(self, model: ServedModel) -> None:
        if model.state == "failed":
            return
        await self._residents.want(model)
        if model.state == "cold" and not model.failure:
            logger.warning("there is no room for %s yet: it is loaded when asked for", model.definition.name)

    def _note_change(self, model: ServedModel) -> None:
        if model.can_chat:
            self._renderer.expect_chats()
        self._residents.note(model)
        # Looked up each time: who listens may come after the models.
        self.on_change()
