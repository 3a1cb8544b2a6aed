"""The worker over engines that live in memory and can hang or fail where a test wants."""

from __future__ import annotations

import gc
import hashlib
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import pytest
import trio
import trio.testing

from federation.backend import AnswerEvent, Chunk, Done, InferenceRequest, RequestId, Timings, Usage
from federation.errors import BadRequest, ContextTooLong, DeadlineExceeded, Failed, Refused
from ledger.records import Load, ModelName
from node.chat.plain_prompt import PLAIN_STOPS
from node.engine.engine import Engine
from node.engine.errors import EngineBusy, EngineFailed, EngineUnavailable, PromptRefused, PromptTooLong
from node.engine.wire import EngineParams, GenerateRequest, ModelFacts, PromptPart
from node.jobs.errors import JobGoesOn
from node.jobs.job import JobId
from node.models.definition import ModelDefinition
from node.models.errors import ModelFileChanged, UnknownModel
from node.models.model_yaml import ModelSettings
from node.store.store import Identity, Store
from node.worker import Worker, WorkerSettings
from p2p.blobs.manifest import ManifestFile, manifest_of
from p2p.peer import PeerId
from tests.answers import check_no_scope_stays_open

ME = PeerId("me")
TINY = ModelName("tiny")
FACTS = ModelFacts(
    context_size=512,
    vocab_size=100,
    chat_template=None,
    bos="<s>",
    eos="</s>",
    special_tokens=("<s>", "</s>"),
    special_ids=(1, 2),
)
LOAD_TIME = 3.0
STOP_TIME = 0.5
TOKEN_TIME = 1.0
DONE = Done(("stop",), Usage(1, 2), Timings())


@dataclass
class Behaviour:
    """What engines of one test do, and what was asked of them."""

    facts: ModelFacts = FACTS
    fails_to_load: set[str] = field(default_factory=set)
    memory_bytes: dict[str, int] = field(default_factory=dict)
    """By model; none: it cannot be measured."""
    load_time: float = LOAD_TIME
    estimate_time: float = 0.0
    store: FakeStore = field(default_factory=lambda: FakeStore({}))
    hangs_at: str = ""
    """`load`, `accept` or `events`."""
    error_at_accept: Exception | None = None
    error_in_events: Exception | None = None
    done: Done = DONE
    engines: dict[str, FakeEngine] = field(default_factory=dict)
    asked: list[GenerateRequest] = field(default_factory=list)

    def make_engine(self, params: EngineParams, on_change: Callable[[], None]) -> Engine:
        engine = self.engines[Path(params.path).stem] = FakeEngine(self, params, on_change)
        return cast("Engine", engine)

    async def estimate(self, definition: ModelDefinition, _: EngineParams) -> int:
        await trio.sleep(self.estimate_time)
        return definition.size_bytes


class FakeEngine:
    """The shape of `Engine`, without a process."""

    def __init__(self, behaviour: Behaviour, params: EngineParams, on_change: Callable[[], None]) -> None:
        self.params = params
        self.facts: ModelFacts | None = None
        self.state = "starting"
        self.reason = ""
        self.slots_busy = 0
        self.has_given_up = False
        self.pid: int | None = None
        self.loaded_fraction = 0.0
        self.memory_bytes = behaviour.memory_bytes.get(Path(params.path).stem, 0)
        self._behaviour = behaviour
        self._on_change = on_change
        self._loaded = trio.Event()

    async def run(self) -> None:
        try:
            await hang_if(self._behaviour.hangs_at == "load")
            self.pid = 100 + len(self._behaviour.engines)
            await trio.sleep(self._behaviour.load_time)
            if Path(self.params.path).stem in self._behaviour.fails_to_load:
                self.state, self.reason, self.has_given_up = "failed", "not a model at all", True
            else:
                self.state, self.facts = "ready", self._behaviour.facts
            self._loaded.set()
            self._on_change()
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(STOP_TIME)
            self.state, self.has_given_up = "failed", True

    async def wait_ready(self) -> None:
        await self._loaded.wait()
        if self.state == "failed":
            raise EngineUnavailable(self.reason)

    @asynccontextmanager
    async def generate(self, request: GenerateRequest) -> AsyncIterator[Any]:
        if self.slots_busy >= self.params.slots:
            raise EngineBusy("all slots are taken")
        self._behaviour.asked.append(request)
        self.slots_busy += 1
        try:
            await hang_if(self._behaviour.hangs_at == "accept")
            if self._behaviour.error_at_accept is not None:
                raise self._behaviour.error_at_accept
            generation = FakeGeneration()
            async with aclosing(self._events(generation)) as generation.events:
                yield generation
        finally:
            self.slots_busy -= 1

    async def _events(self, generation: FakeGeneration) -> AsyncGenerator[AnswerEvent]:
        yield Chunk(0, (1,), "a")
        with generation.reading:
            await trio.sleep(TOKEN_TIME)
            await hang_if(self._behaviour.hangs_at == "events")
        if generation.given_up is not None:
            raise generation.given_up
        if self._behaviour.error_in_events is not None:
            raise self._behaviour.error_in_events
        yield Chunk(0, (2,), "b")
        yield self._behaviour.done


@dataclass
class FakeGeneration:
    events: AsyncIterator[AnswerEvent] = field(init=False)
    prompt_sha256: bytes = b"sha"
    resumed: tuple[str, ...] = ()
    prompt_tokens: int = 7
    given_up: Exception | None = None
    reading: trio.CancelScope = field(default_factory=trio.CancelScope)

    def give_up(self, error: Exception) -> None:
        self.given_up = error
        self.reading.cancel()


def sha256_of(stem: str) -> str:
    return hashlib.sha256(stem.encode()).hexdigest()


@dataclass
class FakeStore:
    """Every file's hash is that of its stem."""

    times: Mapping[str, float]
    """Seconds that hashing one takes; none: at once."""
    identities: list[Identity] = field(default_factory=list)
    """Of the models that are offered now."""

    async def knows(self, definition: ModelDefinition) -> bool:
        await trio.lowlevel.checkpoint()
        return False

    async def identify(self, definition: ModelDefinition, on_progress: Callable[[int], None]) -> Identity:
        on_progress(1)
        await trio.sleep(self.times.get(definition.path.stem, 0.0))
        if definition.path.stem == "changing":
            raise ModelFileChanged("it changed")
        sha256 = sha256_of(definition.path.stem)
        manifest = manifest_of([ManifestFile("model.gguf", definition.size_bytes, sha256, bytes(32))])
        identity = Identity(manifest, sha256, ())
        self.identities.append(identity)
        return identity

    def forget(self, identity: Identity) -> None:
        self.identities.remove(identity)


class HangingRenderer:
    def __init__(self) -> None:
        self.expected_at: set[float] = set()

    def expect_chats(self) -> None:
        self.expected_at.add(trio.current_time())

    async def render(self, template: str, values: Mapping[str, Any]) -> str:
        await trio.sleep_forever()
        raise AssertionError

    async def aclose(self) -> None:
        pass


async def hang_if(wanted: bool) -> None:
    if wanted:
        await trio.sleep_forever()


async def run_inline(function: Callable[..., Any], *arguments: object) -> Any:
    await trio.lowlevel.checkpoint()
    return function(*arguments)


def definition(name: str = "tiny", **fields: Any) -> ModelDefinition:
    return ModelDefinition(ModelName(name), Path(f"/models/{name}.gguf"), size_bytes=9, **fields)


def completion(model: str = "tiny", **fields: Any) -> InferenceRequest:
    return InferenceRequest("completion", RequestId("r1"), ModelName(model), prompt="hi", **fields)


def chat(model: str = "tiny") -> InferenceRequest:
    return InferenceRequest(
        "chat", RequestId("r1"), ModelName(model), messages=[{"role": "user", "content": "hi"}]
    )


async def ask(worker: Worker, request: InferenceRequest) -> str:
    """The whole text of the answer."""
    async with worker.infer(request) as answer:
        return "".join([event.text async for event in answer.events if isinstance(event, Chunk)])


def run(
    test: Callable[[Worker], Awaitable[None]],
    *definitions: ModelDefinition,
    behaviour: Behaviour | None = None,
    slots: int = 2,
    preload: bool = False,
    settings: Mapping[str, Any] = MappingProxyType({}),
    on_change: Callable[[], None] = lambda: None,
) -> None:
    """Run `test` on a running worker, under a clock that does not wait."""

    async def main() -> None:
        models = definitions or (definition(),)
        behaves = behaviour or Behaviour()
        worker = Worker(
            ME,
            models,
            store=cast("Store", behaves.store),
            settings=WorkerSettings(slots=slots, **settings),
            preload=[model.name for model in models] if preload else [],
            make_engine=behaves.make_engine,
            estimate=behaves.estimate,
        )
        worker.on_change = on_change
        with trio.fail_after(3600):
            async with trio.open_nursery() as nursery:
                await nursery.start(worker.run)
                await test(worker)
                nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def state_of(worker: Worker, name: str = "tiny") -> tuple[str, str]:
    return next((info.state, info.reason) for info in worker.models() if info.name == name)


def test_a_cold_model_is_loaded_by_its_first_request() -> None:
    async def test(worker: Worker) -> None:
        assert state_of(worker) == ("cold", "")
        start = trio.current_time()
        assert await ask(worker, completion()) == "ab"
        assert trio.current_time() - start >= LOAD_TIME
        assert state_of(worker) == ("loaded", "")

    run(test)


def test_a_preloaded_model_loads_at_once_and_early_requests_wait_for_it() -> None:
    async def test(worker: Worker) -> None:
        assert state_of(worker) == ("loading", "")
        assert await ask(worker, completion()) == "ab"

    run(test, preload=True)


def test_answers_are_left_in_any_order() -> None:
    async def test(worker: Worker) -> None:
        await check_no_scope_stays_open(worker, completion())

    run(test)


def test_a_chat_is_not_gone_on_with_in_its_last_message() -> None:
    async def test(worker: Worker) -> None:
        with pytest.raises(Refused, match="token ids") as caught:
            await ask(worker, replace(chat(), is_begun=True))
        assert caught.value.reason == "resume_mismatch"

    run(test)


def test_an_answer_says_who_serves_it_and_what_its_prompt_was() -> None:
    async def test(worker: Worker) -> None:
        async with worker.infer(completion()) as answer:
            assert (answer.served_by, answer.prompt_sha256, answer.prompt_tokens) == (ME, b"sha", 7)
            assert [event async for event in answer.events][-1] == DONE

    run(test)


def test_a_failed_model_refuses_with_its_reason_and_others_go_on() -> None:
    async def test(worker: Worker) -> None:
        for name, reason in (("broken", "not a model at all"), ("missing", "there is no file")):
            with pytest.raises(Refused, match=reason) as caught:
                await ask(worker, completion(name))
            assert caught.value.reason == "model_failed"
            assert state_of(worker, name) == ("failed", reason)
            assert worker.load()[ModelName(name)].slots_total == 0
        assert await ask(worker, completion("good")) == "ab"

    run(
        test,
        definition("good"),
        definition("broken"),
        definition("missing", problem="there is no file"),
        behaviour=Behaviour(fails_to_load={"broken"}),
        preload=True,
    )


def test_the_models_settings_reach_the_engine() -> None:
    settings = ModelSettings(
        context_size=128, threads=3, gpu_layers=0, f16=False, mmap=False, mlock=True, max_tokens=4
    )
    behaviour = Behaviour()

    async def test(worker: Worker) -> None:
        await ask(worker, completion())
        assert behaviour.engines["tiny"].params == EngineParams(
            path=str(Path("/models/tiny.gguf")),
            context_size=128,
            slots=2,
            threads=3,
            gpu_layers=0,
            mmap=False,
            mlock=True,
            cache_type_k="f32",
            cache_type_v="f32",
        )
        assert behaviour.asked[0].max_tokens_default == 4

    run(test, definition(settings=settings), behaviour=behaviour)


def test_a_chat_without_a_template_is_a_dialogue_and_none_of_it_a_special_token() -> None:
    behaviour = Behaviour()

    async def test(worker: Worker) -> None:
        await ask(worker, chat())
        assert behaviour.asked[0].prompt == (PromptPart("User: hi\nAssistant:", parse_special=False),)
        assert behaviour.asked[0].stop == PLAIN_STOPS

    run(test, behaviour=behaviour)


def test_a_request_beyond_the_slots_is_refused_as_busy() -> None:
    async def test(worker: Worker) -> None:
        async with worker.infer(completion()), worker.infer(completion()):
            assert worker.load() == {TINY: Load(2, 2, 0, is_loaded=True)}
            with pytest.raises(Refused) as caught:
                await ask(worker, completion())
            assert (caught.value.reason, caught.value.load) == ("busy", Load(2, 2, 0, is_loaded=True))
        assert worker.load() == {TINY: Load(2, 0, 0, is_loaded=True)}

    run(test)


def test_a_model_says_how_fast_it_was_and_whether_it_is_in_memory() -> None:
    async def test(worker: Worker) -> None:
        assert worker.load()[TINY].is_loaded is False
        await ask(worker, completion())
        load = worker.load()[TINY]
        assert (load.prefill_speed, load.decode_speed, load.is_loaded) == (3 / 0.5, 1 / TOKEN_TIME, True)

    run(test, behaviour=Behaviour(done=Done(("stop",), Usage(3, 2), Timings(0.0, 0.5, TOKEN_TIME))))


def test_a_reader_that_takes_its_time_does_not_make_the_model_look_slow() -> None:
    async def test(worker: Worker) -> None:
        async with worker.infer(completion()) as answer:
            async for _ in answer.events:
                await trio.sleep(100 * TOKEN_TIME)
        load = worker.load()[TINY]
        assert (load.prefill_speed, load.decode_speed) == (3 / 0.5, 0.0)

    run(test, behaviour=Behaviour(done=Done(("stop",), Usage(3, 2), Timings(0.0, 0.5, 100 * TOKEN_TIME))))


def test_a_model_calls_tools_as_its_settings_say() -> None:
    called = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [{"role": "assistant", "content": "", "tool_calls": [called]}]

    async def test(worker: Worker) -> None:
        await ask(worker, replace(chat(), messages=messages))

    behaviour = Behaviour()
    run(test, definition(settings=ModelSettings(tool_format="hermes")), behaviour=behaviour)
    [part] = behaviour.asked[0].prompt
    assert isinstance(part, PromptPart)
    assert "<tool_call>" in part.text


def test_only_so_many_requests_wait_for_a_model() -> None:
    async def test(worker: Worker) -> None:
        refused = 0

        async def one() -> None:
            nonlocal refused
            try:
                await ask(worker, completion())
            except Refused as error:
                refused += error.reason == "loading"

        async with trio.open_nursery() as nursery:
            for _ in range(70):
                nursery.start_soon(one)
            await trio.testing.wait_all_tasks_blocked()
            assert worker.load() == {TINY: Load(100, 0, 64)}
        assert refused == 6

    run(test, slots=100)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PromptTooLong("9 tokens do not fit 8"), ContextTooLong),
        (PromptRefused("half a character"), BadRequest),
        (EngineFailed("it died"), Refused),
    ],
)
def test_what_keeps_an_engine_from_accepting_is_told_apart(
    error: Exception, expected: type[Exception]
) -> None:
    async def test(worker: Worker) -> None:
        with pytest.raises(expected, match=str(error)):
            await ask(worker, completion())
        assert worker.load() == {TINY: Load(2, 0, 0, is_loaded=True)}

    run(test, behaviour=Behaviour(error_at_accept=error))


def test_an_engine_that_dies_in_the_middle_fails_the_answer() -> None:
    async def test(worker: Worker) -> None:
        with pytest.raises(Failed, match="it died"):
            await ask(worker, completion())
        assert worker.load() == {TINY: Load(2, 0, 0, is_loaded=True)}

    run(test, behaviour=Behaviour(error_in_events=EngineFailed("it died")))


def test_a_grammar_that_no_engine_can_follow_is_the_requests_fault() -> None:
    async def test(worker: Worker) -> None:
        with pytest.raises(BadRequest, match="too complex") as caught:
            await ask(worker, completion())
        assert caught.value.param == "tools"

    run(test, behaviour=Behaviour(error_in_events=PromptRefused("too complex", param="grammar")))


def test_messages_that_are_no_chat_are_named() -> None:
    async def test(worker: Worker) -> None:
        for messages, param in (([], "messages"), ([{"role": "x", "content": ""}], "messages[0].role")):
            with pytest.raises(BadRequest) as caught:
                await ask(worker, replace(chat(), messages=messages))
            assert caught.value.param == param

    run(test)


@pytest.mark.parametrize("hangs_at", ["load", "render", "accept", "events"])
@pytest.mark.parametrize("how", ["cancelled", "out of time"])
def test_wherever_it_hangs_nothing_is_left(hangs_at: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A clock that jumps when all tasks wait does not wait for a thread.
    monkeypatch.setattr(trio.to_thread, "run_sync", run_inline)
    facts = replace(FACTS, chat_template="{{ messages }}") if hangs_at == "render" else FACTS
    behaviour = Behaviour(facts=facts, hangs_at=hangs_at)

    async def test(worker: Worker) -> None:
        worker._renderer = HangingRenderer()  # type: ignore[assignment]  # it has what the worker uses
        if how == "cancelled":
            with trio.move_on_after(60) as scope:
                await ask(worker, chat())
            assert scope.cancelled_caught
        else:
            with pytest.raises(DeadlineExceeded):
                await ask(worker, replace(chat(), timeout=60.0))
        assert trio.current_time() >= 60
        assert worker.load() == {TINY: Load(2, 0, 0, is_loaded=hangs_at != "load")}
        await worker.drain()

    run(test, behaviour=behaviour)


@pytest.mark.parametrize(
    ("changes", "can_chat"),
    [
        ({"chat_template": "{{ messages }}"}, True),
        ({"chat_template": None}, False),
        ({"chat_template": "{{ messages }}", "capabilities": ("embeddings",)}, False),
    ],
)
def test_the_renderer_expects_chats_as_soon_as_a_model_is_loaded_that_can_chat(
    changes: dict[str, Any], can_chat: bool
) -> None:
    async def test(worker: Worker) -> None:
        renderer = HangingRenderer()
        worker._renderer = renderer  # type: ignore[assignment]  # it has what the worker uses
        start = trio.current_time()
        await trio.sleep(60)
        assert state_of(worker) == ("loaded", "")
        assert renderer.expected_at == ({start + LOAD_TIME} if can_chat else set())

    run(test, behaviour=Behaviour(facts=replace(FACTS, **changes)), preload=True)


def test_the_deadline_does_not_cancel_what_the_reader_does_besides() -> None:
    async def test(worker: Worker) -> None:
        timeout = 10.0
        async with worker.infer(completion(timeout=timeout)) as answer:
            await anext(answer.events)
            await trio.sleep(2 * timeout)
            with pytest.raises(DeadlineExceeded):
                await anext(answer.events)

    run(test)


def test_draining_refuses_new_requests_and_waits_for_running_ones() -> None:
    async def test(worker: Worker) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, worker, completion())
            await trio.testing.wait_all_tasks_blocked()
            start = trio.current_time()
            await worker.drain()
            assert trio.current_time() - start >= LOAD_TIME
            assert worker.load() == {TINY: Load(2, 0, 0, is_loaded=True)}
        with pytest.raises(Refused) as caught:
            await ask(worker, completion())
        assert caught.value.reason == "draining"

    run(test)


def test_a_drain_that_takes_too_long_can_be_given_up() -> None:
    async def test(worker: Worker) -> None:
        async with worker.infer(completion()):
            with trio.move_on_after(5) as scope:
                await worker.drain()
            assert scope.cancelled_caught

    run(test)


def test_a_removed_model_ends_what_runs_and_then_its_engine() -> None:
    behaviour = Behaviour()

    async def test(worker: Worker) -> None:
        async with trio.open_nursery() as nursery, worker.infer(completion()) as answer:
            nursery.start_soon(worker.remove_model, TINY)
            await trio.testing.wait_all_tasks_blocked()
            assert worker.models() == []
            with pytest.raises(Refused) as caught:
                await ask(worker, completion())
            assert caught.value.reason == "no_such_model"
            assert [event async for event in answer.events][-1] == DONE
            assert behaviour.engines["tiny"].state == "ready"
        assert behaviour.engines["tiny"].state == "failed"
        with pytest.raises(UnknownModel):
            await worker.remove_model(TINY)

    run(test, behaviour=behaviour)


def test_a_removal_that_is_given_up_while_something_runs_leaves_all_as_it_was() -> None:
    behaviour = Behaviour()

    async def test(worker: Worker) -> None:
        async with worker.infer(completion()) as answer:
            with trio.move_on_after(TOKEN_TIME / 2) as scope:
                await worker.remove_model(TINY)
            assert scope.cancelled_caught
            assert await ask(worker, completion()) == "ab"
            assert [event async for event in answer.events][-1] == DONE
        assert behaviour.engines["tiny"].state == "ready"

    run(test, behaviour=behaviour)


def test_a_model_is_removed_once_its_engine_is_gone() -> None:
    behaviour = Behaviour()

    async def test(worker: Worker) -> None:
        await ask(worker, completion())
        await worker.remove_model(TINY)
        assert behaviour.engines["tiny"].state == "failed"

    run(test, behaviour=behaviour)


def test_a_model_whose_removal_was_given_up_is_forgotten_once_its_engine_is_gone() -> None:
    behaviour = Behaviour()

    async def test(worker: Worker) -> None:
        worker.add_model(definition("new"))
        await ask(worker, completion("new"))
        model = weakref.ref(worker._models[ModelName("new")])
        with trio.move_on_after(STOP_TIME / 2) as scope:
            await worker.remove_model(ModelName("new"))
        assert scope.cancelled_caught
        await trio.sleep(STOP_TIME)
        assert behaviour.engines.pop("new").state == "failed"
        gc.collect()
        assert model() is None, "somebody still counts it"

    run(test, behaviour=behaviour)


def test_models_that_come_and_go_leave_no_task_behind() -> None:
    async def test(worker: Worker) -> None:
        await trio.testing.wait_all_tasks_blocked()
        tasks = trio.lowlevel.current_statistics().tasks_living
        for _ in range(3):
            worker.add_model(definition("new"))
            await ask(worker, completion("new"))
            await worker.remove_model(ModelName("new"))
            worker.add_model(definition(problem="is still not there"))
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        assert state_of(worker)[0] == "failed"

    run(test, definition(problem="was never there"))


def test_a_model_can_be_added_and_one_that_failed_replaced() -> None:
    async def test(worker: Worker) -> None:
        worker.add_model(definition("new"))
        await trio.testing.wait_all_tasks_blocked()
        assert state_of(worker, "new") == ("loading", "")
        worker.add_model(definition("new"))
        worker.add_model(definition("tiny"))
        assert await ask(worker, completion("tiny")) == "ab"

    run(test, definition(problem="was not there yet"))


def test_a_model_whose_file_was_copied_moves_there_and_no_answer_breaks_off() -> None:
    behaviour = Behaviour()
    copy = replace(definition(), path=Path("/home/models/copy.gguf"))

    async def test(worker: Worker) -> None:
        async with trio.open_nursery() as nursery, worker.infer(completion()) as answer:
            worker.add_model(copy)
            nursery.start_soon(ask, worker, completion())
            await trio.sleep(10 * LOAD_TIME)
            assert behaviour.engines["copy"].state == "starting", "the memory may hold one only"
            assert [event async for event in answer.events][-1] == DONE
        assert behaviour.engines["tiny"].state == "failed"
        assert behaviour.engines["copy"].state == "ready"
        assert [record.name for record in worker.model_records()] == [TINY]

    run(test, behaviour=behaviour)


def test_a_model_may_be_replaced_and_removed_before_its_time_has_come() -> None:
    behaviour = Behaviour()

    async def test(worker: Worker) -> None:
        async with trio.open_nursery() as nursery, worker.infer(completion()) as answer:
            for stem in ("one", "two"):
                worker.add_model(replace(definition(), path=Path(f"/models/{stem}.gguf")))
            nursery.start_soon(worker.remove_model, TINY)
            await trio.testing.wait_all_tasks_blocked()
            assert worker.models() == []
            assert [event async for event in answer.events][-1] == DONE
        assert behaviour.engines.keys() == {"tiny"}
        assert behaviour.engines["tiny"].state == "failed"

    run(test, behaviour=behaviour)


def test_what_takes_a_while_is_shown_as_a_job() -> None:
    async def test(worker: Worker) -> None:
        await ask(worker, completion("tiny"))
        [job] = worker.jobs()
        assert (job.id, job.kind, job.state, job.size_bytes) == ("hash-tiny", "hash", "running", 9)
        assert job.done_bytes == 1
        await trio.sleep(9)
        assert worker.jobs() == []

    run(test, behaviour=Behaviour(store=FakeStore({"tiny": 9.0})))


def test_a_load_that_is_cancelled_ends_and_the_next_request_loads_again() -> None:
    async def test(worker: Worker) -> None:
        assert worker.cancel_job(JobId("load-tiny"))
        assert state_of(worker) == ("cold", "")
        await trio.sleep(STOP_TIME + 1)
        assert worker.monitor()["used_bytes"] == 0
        assert not worker.cancel_job(JobId("load-tiny"))
        assert await ask(worker, completion()) == "ab"

    run(test, preload=True)


def test_a_load_that_requests_wait_for_goes_on_and_says_so() -> None:
    async def test(worker: Worker) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, worker, completion())
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(JobGoesOn, match="requests that wait for it: 1 do"):
                worker.cancel_job(JobId("load-tiny"))
        assert state_of(worker) == ("loaded", "")

    run(test)


def test_a_hash_that_is_cancelled_goes_on_when_its_model_is_added_again() -> None:
    async def test(worker: Worker) -> None:
        await trio.sleep(1)
        worker.add_model(definition())  # Goes on as it does; and is no reason to go on later.
        assert worker.cancel_job(JobId("hash-tiny"))
        await trio.sleep(1000)
        assert (worker.jobs(), worker.model_records()[0].sha256) == ([], "")
        assert not worker.cancel_job(JobId("hash-tiny"))
        worker.add_model(definition())
        await trio.sleep(10)
        assert worker.model_records()[0].sha256 == sha256_of("tiny")

    run(test, behaviour=Behaviour(store=FakeStore({"tiny": 9.0})))


def test_a_model_is_known_by_its_hash_as_soon_as_there_is_one() -> None:
    changes = 0

    def count_change() -> None:
        nonlocal changes
        changes += 1

    async def test(worker: Worker) -> None:
        with pytest.raises(Refused) as caught:
            await ask(worker, completion(f"tiny@sha256:{sha256_of('other')}"))
        assert caught.value.reason == "no_such_model"
        await trio.testing.wait_all_tasks_blocked()
        assert changes == 2  # It was hashed so far; it is known.
        assert await ask(worker, completion(f"tiny@sha256:{sha256_of('tiny')}")) == "ab"
        record = worker.model_records()[0]
        assert record.manifest == behaviour.store.identities[0].manifest.id
        assert (record.sha256, record.state, record.context_size, record.slots, record.size_bytes) == (
            *(sha256_of("tiny"), "loaded"),
            *(512, 2, 9),
        )

    behaviour = Behaviour()
    run(test, behaviour=behaviour, on_change=count_change)
    assert behaviour.store.identities == [], "nobody is offered the files of a worker that has ended"


def test_a_model_whose_file_changed_is_another_one() -> None:
    behaviour = Behaviour(store=FakeStore({"tiny": 5.0}))

    async def test(worker: Worker) -> None:
        await trio.sleep(6)
        [former] = behaviour.store.identities
        former.outdated.set()
        await trio.testing.wait_all_tasks_blocked()
        assert behaviour.store.identities == []
        assert (worker.model_records()[0].sha256, worker.model_records()[0].manifest) == ("", "")
        await trio.sleep(6)
        [identity] = behaviour.store.identities
        assert identity is not former
        assert worker.model_records()[0].manifest == identity.manifest.id

    run(test, behaviour=behaviour)


def test_a_file_that_is_being_written_to_is_hashed_when_that_has_ended() -> None:
    behaviour = Behaviour()

    async def test(worker: Worker) -> None:
        await trio.sleep(1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                behaviour.store, "identify", lambda _, note: FakeStore({}).identify(definition("done"), note)
            )
            await trio.sleep(120)
        assert worker.model_records()[0].sha256 == sha256_of("done")

    run(test, definition("changing"), behaviour=behaviour)


def test_a_file_that_is_not_what_it_should_be_is_not_served() -> None:
    async def test(worker: Worker) -> None:
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Refused, match="is damaged"):
            await ask(worker, completion())
        assert state_of(worker)[0] == "failed"

    run(test, definition(expected_sha256="something else"))


def test_a_file_that_is_not_what_it_should_be_has_nothing_to_unload() -> None:
    async def test(worker: Worker) -> None:
        await trio.sleep(2 * LOAD_TIME)
        assert await worker.unload_model(TINY) is False
        assert state_of(worker)[0] == "failed"

    run(test, definition(expected_sha256="something else"), preload=True)


def test_a_file_that_cannot_be_hashed_is_served_without_a_hash() -> None:
    async def test(worker: Worker) -> None:
        assert await ask(worker, completion("changing")) == "ab"
        assert worker.model_records()[0].sha256 == ""

    run(test, definition("changing"))


def roomy_for(count: int, **fields: Any) -> dict[str, Any]:
    """Settings with memory for so many models: each is estimated at its file's 9 bytes."""
    return {"memory_bytes": 9 * count, **fields}


def test_a_model_makes_room_for_the_one_that_is_asked_for_and_comes_back() -> None:
    behaviour = Behaviour()

    async def test(worker: Worker) -> None:
        assert await ask(worker, completion("one")) == "ab"
        assert await ask(worker, completion("two")) == "ab"
        assert await ask(worker, completion("three")) == "ab"
        assert [state_of(worker, name)[0] for name in ("one", "two", "three")] == ["cold", "loaded", "loaded"]
        assert behaviour.engines["one"].state == "failed", "its process has ended"
        assert await ask(worker, completion("one")) == "ab"
        assert [state_of(worker, name)[0] for name in ("one", "two", "three")] == ["loaded", "cold", "loaded"]

    run(test, *map(definition, ("one", "two", "three")), behaviour=behaviour, settings=roomy_for(2))


def test_an_answer_is_never_cut_to_make_room() -> None:
    async def test(worker: Worker) -> None:
        async with trio.open_nursery() as nursery, worker.infer(completion("one")) as answer:
            nursery.start_soon(ask, worker, completion("two"))
            await trio.sleep(60)
            assert state_of(worker, "two")[0] == "cold"
            assert worker.load()[ModelName("two")].queued == 1
            assert [event async for event in answer.events][-1] == DONE
        assert [state_of(worker, name)[0] for name in ("one", "two")] == ["cold", "loaded"]

    run(test, definition("one"), definition("two"), settings=roomy_for(1))


def test_who_asks_while_a_model_makes_room_waits_and_is_served() -> None:
    async def test(worker: Worker) -> None:
        await ask(worker, completion("one"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, worker, completion("two"))
            await trio.testing.wait_all_tasks_blocked()
            assert state_of(worker, "one")[0] == "cold"
            assert await ask(worker, completion("one")) == "ab"

    run(test, definition("one"), definition("two"), settings=roomy_for(1))


def test_who_gives_up_waiting_for_memory_leaves_nothing() -> None:
    async def test(worker: Worker) -> None:
        async with worker.infer(completion("one")):
            with pytest.raises(DeadlineExceeded):
                await ask(worker, completion("two", timeout=5.0))
        assert await ask(worker, completion("one")) == "ab"
        assert state_of(worker, "two")[0] == "cold"
        await worker.drain()

    run(test, definition("one"), definition("two"), settings=roomy_for(1))


def test_a_model_larger_than_all_memory_is_failed_with_the_sizes() -> None:
    async def test(worker: Worker) -> None:
        for _ in range(2):
            with pytest.raises(Refused, match=r"it needs 3\.00 GiB of memory.*2\.00 GiB") as caught:
                await ask(worker, completion("large"))
            assert caught.value.reason == "model_failed"
            assert state_of(worker, "large")[0] == "failed"
        assert await ask(worker, completion("small")) == "ab"
        assert behaviour.engines.keys() == {"small"}

    behaviour = Behaviour()
    large = replace(definition("large"), size_bytes=3 * 2**30)
    run(test, large, definition("small"), behaviour=behaviour, settings={"memory_bytes": 2 * 2**30})


def test_a_model_larger_than_all_memory_is_seen_to_be_when_it_should_be_loaded_ahead() -> None:
    async def test(worker: Worker) -> None:
        state, reason = state_of(worker)
        assert state == "failed"
        assert "(--memory)" in reason

    run(test, preload=True, settings={"memory_bytes": 8})


def test_a_model_nobody_uses_is_unloaded_after_a_while_and_a_pinned_one_never() -> None:
    async def test(worker: Worker) -> None:
        await ask(worker, completion("one"))
        await trio.sleep(59)
        assert state_of(worker, "one")[0] == "loaded"
        await trio.sleep(2)
        assert state_of(worker, "one")[0] == "cold"
        await trio.sleep(60)
        assert state_of(worker, "pinned")[0] == "loaded"

    pinned = frozenset({ModelName("pinned")})
    run(test, definition("one"), definition("pinned"), settings={"keep_alive": 60.0, "pinned": pinned})


def test_only_as_many_are_loaded_ahead_as_fit_and_pinned_ones_first() -> None:
    async def test(worker: Worker) -> None:
        await trio.sleep(LOAD_TIME + 1)
        assert [state_of(worker, name)[0] for name in ("one", "two", "three")] == ["loaded", "cold", "loaded"]

    models = [definition("one"), definition("two"), definition("three", settings=ModelSettings(pinned=True))]
    run(test, *models, preload=True, settings=roomy_for(2))


def test_a_model_is_unloaded_by_hand_after_what_runs() -> None:
    behaviour = Behaviour()

    async def test(worker: Worker) -> None:
        async with trio.open_nursery() as nursery, worker.infer(completion()) as answer:
            nursery.start_soon(worker.unload_model, TINY)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(ask, worker, completion())
            assert [event async for event in answer.events][-1] == DONE
            first = behaviour.engines["tiny"]
        assert first.state == "failed"
        assert behaviour.engines["tiny"] is not first, "somebody asked meanwhile"
        assert await worker.unload_model(TINY) is True
        assert state_of(worker)[0] == "cold"
        assert await worker.unload_model(TINY) is False
        with pytest.raises(UnknownModel):
            await worker.unload_model(ModelName("nope"))

    run(test, behaviour=behaviour)


def test_a_model_that_failed_gets_another_chance_by_hand() -> None:
    behaviour = Behaviour(fails_to_load={"tiny"})

    async def test(worker: Worker) -> None:
        with pytest.raises(Refused):
            await ask(worker, completion())
        await worker.unload_model(TINY)
        behaviour.fails_to_load.clear()
        assert await ask(worker, completion()) == "ab"

    run(test, behaviour=behaviour)


def test_what_was_measured_counts_once_a_model_was_loaded() -> None:
    behaviour = Behaviour(memory_bytes={"one": 18})

    async def test(worker: Worker) -> None:
        await ask(worker, completion("one"))
        await ask(worker, completion("two"))
        assert [state_of(worker, name)[0] for name in ("one", "two")] == ["cold", "loaded"]

    run(test, definition("one"), definition("two"), behaviour=behaviour, settings=roomy_for(2))


def test_a_monitor_shows_each_model_and_the_memory_they_share() -> None:
    behaviour = Behaviour(memory_bytes={"one": 12})

    async def test(worker: Worker) -> None:
        async with worker.infer(completion("one")):
            await trio.sleep(5)
            monitor = worker.monitor()
        await trio.sleep(7)
        assert (monitor["budget_bytes"], monitor["used_bytes"], monitor["warning"]) == (18, 12, "")
        one, two = monitor["models"]
        assert one == {
            "model": "one",
            "state": "loaded",
            "reason": "",
            "pid": 101,
            "memory_bytes": 12,
            "estimated_bytes": 9,
            "loaded_fraction": 0.0,
            "slots_total": 2,
            "slots_busy": 1,
            "waiting": 0,
            "idle_s": None,
            "keep_alive_s": 60.0,
            "pinned": False,
            "restarts": 0,
        }
        assert (two["state"], two["pid"], two["memory_bytes"], two["pinned"]) == ("failed", None, 0, True)
        assert two["keep_alive_s"] is None
        assert worker.monitor()["models"][0]["idle_s"] == 7

    pinned = definition("two", settings=ModelSettings(pinned=True))
    settings = roomy_for(2, keep_alive=60.0)
    run(test, definition("one"), replace(pinned, size_bytes=99), behaviour=behaviour, settings=settings)


async def refusal_of(worker: Worker, name: str = "tiny") -> str:
    with pytest.raises(Refused) as caught:
        await ask(worker, completion(name))
    assert caught.value.reason == "model_failed"
    return str(caught.value)


async def ask_in_vain(worker: Worker, name: str = "tiny") -> None:
    assert await refusal_of(worker, name) == "not a model at all"


def test_who_waits_behind_a_load_that_fails_is_refused_and_the_others_go_on() -> None:
    async def test(worker: Worker) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_in_vain, worker, "broken")
            await trio.sleep(1)
            nursery.start_soon(ask, worker, completion("good"))
            # The patience of the second is over, so the first model has to make room.
            await trio.sleep(11)
            nursery.start_soon(ask_in_vain, worker, "broken")
        assert state_of(worker, "good")[0] == "loaded"

    behaviour = Behaviour(fails_to_load={"broken"}, load_time=15.0)
    run(test, definition("broken"), definition("good"), behaviour=behaviour, settings=roomy_for(1))


@pytest.mark.parametrize("asks_again", [True, False])
def test_a_shutdown_ends_also_when_the_load_fails_meanwhile(asks_again: bool) -> None:
    behaviour = Behaviour(fails_to_load={"tiny"})

    async def test(worker: Worker) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_in_vain, worker)
            await trio.sleep(LOAD_TIME / 3)
            nursery.start_soon(worker.unload_model, TINY)
            await trio.sleep(LOAD_TIME / 3)
            if asks_again:
                nursery.start_soon(ask_in_vain, worker)
        assert state_of(worker) == ("cold", "")
        behaviour.fails_to_load.clear()
        assert await ask(worker, completion()) == "ab"

    run(test, behaviour=behaviour)


def test_who_asks_while_a_failed_model_is_shut_down_has_it_loaded_after_that() -> None:
    behaviour = Behaviour(fails_to_load={"tiny"})

    async def test(worker: Worker) -> None:
        await ask_in_vain(worker)
        behaviour.fails_to_load.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.unload_model, TINY)
            await trio.sleep(STOP_TIME / 2)
            assert await ask(worker, completion()) == "ab"
        assert worker.monitor()["models"][0]["idle_s"] is not None, "nobody uses it any more"

    run(test, behaviour=behaviour)


def test_who_waits_for_memory_for_a_damaged_file_is_refused_and_takes_none() -> None:
    behaviour = Behaviour(store=FakeStore({"damaged": 5.0}))

    async def test(worker: Worker) -> None:
        async with worker.infer(completion("good")):
            assert "is damaged" in await refusal_of(worker, "damaged")
        assert await worker.unload_model(ModelName("damaged")) is False
        assert worker.monitor()["used_bytes"] == 9
        assert await ask(worker, completion("good")) == "ab"
        assert behaviour.engines.keys() == {"good"}

    models = (definition("good"), definition("damaged", expected_sha256="something else"))
    run(test, *models, behaviour=behaviour, settings=roomy_for(1))


def test_a_model_removed_while_its_header_is_read_takes_no_memory() -> None:
    behaviour = Behaviour(estimate_time=1.0)

    async def test(worker: Worker) -> None:
        worker.add_model(definition("two"))
        await trio.sleep(0.5)
        await worker.remove_model(ModelName("two"))
        await trio.sleep(1.0)
        assert worker.monitor()["used_bytes"] == 0
        assert await ask(worker, completion("one")) == "ab"
        assert behaviour.engines.keys() == {"one"}

    run(test, definition("one"), definition("two"), behaviour=behaviour, settings=roomy_for(1))


def test_a_model_measured_larger_than_all_memory_is_dropped_with_a_word_and_may_be_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test(worker: Worker) -> None:
        await trio.sleep(LOAD_TIME + 1)
        assert state_of(worker) == ("cold", "")
        assert "tiny takes 0.00 GiB of memory" in caplog.text
        for _ in range(2):
            assert "(--memory)" in await refusal_of(worker)
        assert await worker.unload_model(TINY) is False
        assert state_of(worker) == ("cold", "")
        assert await ask(worker, completion()) == "ab"

    run(test, preload=True, behaviour=Behaviour(memory_bytes={"tiny": 10}), settings=roomy_for(1))


def test_a_pinned_model_measured_too_large_stays_and_the_monitor_says_that_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test(worker: Worker) -> None:
        await trio.sleep(LOAD_TIME + 1)
        assert state_of(worker) == ("loaded", "")
        assert "tiny takes 3.00 GiB of memory" in caplog.text
        warning = (
            "models take 3.00 GiB of memory and may take 2.00 GiB (--memory): pinned or in use, tiny stays"
        )
        assert worker.monitor()["warning"].startswith(warning)
        await worker.unload_model(TINY)
        assert worker.monitor()["warning"] == ""

    settings = {"memory_bytes": 2 * 2**30, "pinned": frozenset([TINY])}
    run(test, behaviour=Behaviour(memory_bytes={"tiny": 3 * 2**30}), settings=settings)


def test_pinned_models_that_are_too_large_together_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    async def test(worker: Worker) -> None:
        await trio.sleep(LOAD_TIME + 1)
        assert "pinned or in use, one, two stay, and nothing else has room" in caplog.text

    behaviour = Behaviour(memory_bytes={"one": 10, "two": 12})
    pinned = frozenset(map(ModelName, ("one", "two")))
    run(test, definition("one"), definition("two"), behaviour=behaviour, settings=roomy_for(2, pinned=pinned))


def test_a_model_that_is_loaded_and_too_large_goes_on_when_it_is_added_once_more() -> None:
    async def test(worker: Worker) -> None:
        async with worker.infer(completion()) as answer:
            worker.add_model(definition())
            await trio.testing.wait_all_tasks_blocked()
            assert state_of(worker) == ("loaded", "")
            assert [event async for event in answer.events][-1] == DONE

    run(test, behaviour=Behaviour(memory_bytes={"tiny": 10}), settings=roomy_for(1))
