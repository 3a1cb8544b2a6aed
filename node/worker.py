"""The worker: the models of this machine, as a backend.

    infer --> the model, loaded if it was cold     served_model.py
          --> messages to prompt                   chat/prompt.py
          --> checked, defaults filled in          engine_request.py
          --> a slot of its engine                 engine/engine.py

Knows no peers: a request is served here or refused, and who asked may ask another
worker. A model that cannot run is still listed, with the reason.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager

import trio

from federation.backend import (
    SLOTLESS_KINDS,
    Answer,
    AnswerEvent,
    Chunk,
    Done,
    InferenceRequest,
    ModelInfo,
)
from federation.errors import BadRequest, ContextTooLong, DeadlineExceeded, Failed, Refused
from federation.model_reference import ModelReference
from ledger.records import Load, ModelName, ModelRecord
from node.answer_reader import AnswerReader
from node.chat.answer_parser import AnswerParser
from node.chat.errors import BadChat, RendererUnavailable, TemplateFailed
from node.chat.preparation import MARKER_TEXTS, ModelTraits, completion_grammar, prepare_chat
from node.chat.renderer import ChatRenderer
from node.engine.engine import Engine
from node.engine.errors import (
    EngineBusy,
    EngineFailed,
    EngineUnavailable,
    OtherPrompt,
    PromptRefused,
    PromptTooLong,
)
from node.engine.wire import EngineRequest, GenerateRequest
from node.engine_request import (
    completion_prompt,
    embed_request,
    engine_request,
    field_to_blame,
    lookup_request,
    require_servable,
)
from node.models.definition import ModelDefinition
from node.models.errors import UnknownModel
from node.models.hashing import FileHasher
from node.models.model_yaml import ModelSettings
from node.served_model import MakeEngine, ServedModel, make_engine
from node.speeds import Speeds
from p2p.peer import PeerId


def _ignore_change() -> None:
    pass


class Worker:
    """A `Backend` over the engines of this machine. One task `run`s it."""

    def __init__(
        self,
        me: PeerId,
        definitions: Iterable[ModelDefinition],
        *,
        hasher: FileHasher,
        slots: int = 4,
        preload: Iterable[ModelName] = (),
        make_engine: MakeEngine = make_engine,
    ) -> None:
        """`slots` of each model; those in `preload` are loaded at once, the others when first asked for."""
        self.on_change: Callable[[], None] = _ignore_change
        """Called, often, when what `model_records` returns may have changed. It must not raise."""
        self._me = me
        self._hasher = hasher
        self._slots = slots
        self._make_engine = make_engine
        self._renderer = ChatRenderer()
        self._models = {definition.name: self._served(definition) for definition in definitions}
        self._preload = [self._models[name] for name in preload]
        self._nursery: trio.Nursery | None = None
        self._is_draining = False
        self._running: Counter[ServedModel] = Counter()
        """Requests that use a model now, or wait for it; also of models that were removed meanwhile."""
        self._request_ended = trio.lowlevel.ParkingLot()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Then no process of it is left."""
        async with self._renderer, trio.open_nursery() as nursery:
            self._nursery = nursery
            for model in self._preload:
                model.want()
            for model in self._models.values():
                nursery.start_soon(model.run)
            task_status.started()
            await trio.sleep_forever()

    def models(self) -> Sequence[ModelInfo]:
        """Every model of this machine, sorted by name, also those that failed."""
        return [self._models[name].info() for name in sorted(self._models)]

    def model_records(self) -> list[ModelRecord]:
        """The same for the ledger."""
        return [self._models[name].record() for name in sorted(self._models)]

    def load(self) -> Mapping[ModelName, Load]:
        """How busy each model is now."""
        return {name: model.load() for name, model in self._models.items()}

    def add_model(self, definition: ModelDefinition) -> None:
        """Serve one more model, and load it now.

        One of that name that failed, or whose file lies elsewhere now, is replaced once nothing runs on it;
        new requests wait for that.
        """
        former = self._models.get(definition.name)
        if former is not None and former.state != "failed" and former.definition.path == definition.path:
            former.want()
            return
        model = self._models[definition.name] = self._served(definition)
        model.want()
        if self._nursery is not None:
            self._nursery.start_soon(self._run_after, former, model)
        self.on_change()

    async def remove_model(self, name: ModelName) -> None:
        """Serve a model no more: new requests are refused at once, running ones end first.

        Afterwards its file can be deleted, also where a file in use cannot. Cancelled: what runs is cut off.

        Raises:
          UnknownModel: there is none of that name.
        """
        model = self._models.pop(name, None)
        if model is None:
            raise UnknownModel(f"this node has no model {name}")
        self.on_change()
        await self._end(model)

    async def drain(self) -> None:
        """Refuse new requests from now on, and wait until none runs. Bound it with a timeout.

        Cancelled: running ones go on, and new ones are still refused.
        """
        self._is_draining = True
        while self._running.total():
            await self._request_ended.park()

    @asynccontextmanager
    async def infer(self, request: InferenceRequest) -> AsyncIterator[Answer]:
        """Serve `request` here. Entering waits for a model that is loading, and for nothing else.

        Raises:
          BadRequest: it is wrong wherever it goes; ContextTooLong: for this model.
          Refused: this worker cannot serve it now.
          DeadlineExceeded: its time was over before it was accepted.
        """
        model = self._find(request.model)
        require_servable(request)
        deadline = trio.current_time() + request.timeout
        with (
            _refusals(model, request),
            self._at_work(model),
            trio.CancelScope(deadline=deadline) as patience,
        ):
            engine = await model.ready(needs_slot=request.kind not in SLOTLESS_KINDS)
            _require_capable(request, engine)
            asked, parsers = await self._prepare(request, model, engine)
            async with engine.generate(asked) as generation:
                if patience.cancel_called:
                    raise DeadlineExceeded("the request's time was over before it was accepted")
                # From here on the events keep the deadline: it must not cancel what the reader does besides.
                patience.deadline = math.inf
                yield Answer(
                    served_by=self._me,
                    prompt_sha256=generation.prompt_sha256,
                    prompt_tokens=generation.prompt_tokens,
                    events=_Events(
                        request,
                        generation.events,
                        deadline,
                        model.speeds,
                        AnswerReader(
                            parsers, generation.resumed, request.resume.choices if request.resume else ()
                        ),
                    ),
                )
        if patience.cancelled_caught:
            raise DeadlineExceeded("the request's time was over before it was accepted")

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
        await model.run()

    async def _end(self, model: ServedModel) -> None:
        """End a model that gets no new requests, once nothing runs on it. Cancelled: at once."""
        try:
            while self._running[model]:
                await self._request_ended.park()
        finally:
            model.stop()
        await model.wait_ended()

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
        return ServedModel(
            definition,
            slots=self._slots,
            hasher=self._hasher,
            on_change=self._note_change,
            make_engine=self._make_engine,
        )

    def _note_change(self) -> None:
        # Looked up each time: who listens may come after the models.
        self.on_change()


class _Events:
    """What an engine generates, as long as somebody wants it. Its end tells how fast that was."""

    def __init__(
        self,
        request: InferenceRequest,
        events: AsyncIterator[AnswerEvent],
        deadline: float,
        speeds: Speeds,
        reader: AnswerReader,
    ) -> None:
        self._request = request
        self._events = events
        self._deadline = deadline
        self._speeds = speeds
        self._reader = reader
        self._read: deque[AnswerEvent] = deque()
        """What comes next; more than one at the end only."""
        self._has_begun = False
        self._waited = 0.0
        """Seconds our reader spent waiting here since the first token."""

    def __aiter__(self) -> AsyncIterator[AnswerEvent]:
        return self

    async def __anext__(self) -> AnswerEvent:
        if not self._read:
            self._read.extend(self._reader.read(await self._next()))
        return self._read.popleft()

    async def _next(self) -> AnswerEvent:
        asked_at = trio.current_time()
        try:
            with trio.fail_at(self._deadline):
                event = await anext(self._events)
        except trio.TooSlowError as error:
            raise DeadlineExceeded("the request's time is over") from error
        except PromptRefused as error:
            # Found out on the way, and so it would be anywhere: a grammar that grows too complex.
            raise BadRequest(str(error), param=field_to_blame(self._request, error.param)) from error
        except EngineFailed as error:
            raise Failed(str(error)) from error
        if self._has_begun:
            self._waited += trio.current_time() - asked_at
        match event:
            case Chunk():
                self._has_begun = True
            case Done():
                self._speeds.answered(event, self._waited)
        return event


def _require_capable(request: InferenceRequest, engine: Engine) -> None:
    assert engine.facts is not None, "an engine that is ready knows its model"
    capabilities = engine.facts.capabilities
    if request.kind not in SLOTLESS_KINDS and request.kind not in capabilities:
        can = " and ".join(capabilities)
        raise BadRequest(f"{request.model} is for {can}, not for {request.kind}", param="model")


@contextmanager
def _refusals(model: ServedModel, request: InferenceRequest) -> Iterator[None]:
    """What keeps `model` from accepting `request`, as the federation calls it."""
    try:
        yield
    except BadChat as error:
        raise BadRequest(str(error), param=error.param) from error
    except TemplateFailed as error:
        raise BadRequest(f"the model's chat template failed: {error}", param="messages") from error
    except PromptTooLong as error:
        param = field_to_blame(request, error.param, is_too_long=True)
        raise ContextTooLong(str(error), param=param) from error
    except OtherPrompt as error:
        raise Refused("resume_mismatch", str(error)) from error
    except PromptRefused as error:
        raise BadRequest(str(error), param=field_to_blame(request, error.param)) from error
    except EngineBusy as error:
        raise Refused("busy", str(error), load=model.load()) from error
    except (EngineFailed, EngineUnavailable, RendererUnavailable) as error:
        raise Refused("model_failed", str(error)) from error
