"""An attached server over real HTTP: what it has, whether it is well, and what comes of asking it.

Time stands still unless a test lets it jump, and what goes over the sockets takes none of it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import pytest
import trio
import trio.testing

from federation.backend import (
    Chunk,
    Delivered,
    Done,
    InferenceRequest,
    Progress,
    RequestId,
    RequestKind,
    Resume,
)
from federation.errors import BadRequest, DeadlineExceeded, Failed, FederationError, Refused
from federation.infer_codec import decode_from_worker_untrusted, encode
from ledger.records import ModelName
from node.attached.answer_feed import ACCEPT_AFTER, PROGRESS_INTERVAL
from node.attached.request_body import INPUTS_PER_QUESTION
from node.attached.server import LOOK_INTERVAL, LOOK_TIMEOUT, MISSES_MAX, AttachedServer
from node.attached.server_client import BODY_SIZE_MAX
from node.attached.server_url import ServerUrl
from p2p.peer import PeerId
from tests.answers import check_no_scope_stays_open
from tests.real.toy_server import END, Asked, Page, ToyServer, event, hang, page, serving, stream

pytestmark = pytest.mark.real

ME = PeerId("me")
CHAT = "/v1/chat/completions"
ANSWER = stream(event("hel"), event("lo", "stop"), END)


def models(*ids: str, owner: str = "llamacpp") -> Page:
    return page(200, {"object": "list", "data": [{"id": id_, "owned_by": owner} for id_ in ids]})


def llama_server(*, slots: int = 2, **pages: Page) -> dict[str, Page]:
    props = page(200, {"total_slots": slots, "default_generation_settings": {"n_ctx": 512}})
    return {"/v1/models": models("tiny.gguf"), "/props": props, CHAT: ANSWER, **pages}


def chat(**fields: Any) -> InferenceRequest:
    return ask("chat", messages=({"role": "user", "content": "hello"},), **fields)


def ask(kind: RequestKind, **fields: Any) -> InferenceRequest:
    return InferenceRequest(kind, RequestId("r1"), ModelName("tiny"), **fields)


class Attached:
    """A server that runs, its toy, and the clock."""

    def __init__(self, server: AttachedServer, toy: ToyServer, clock: trio.testing.MockClock) -> None:
        self.server = server
        self.toy = toy
        self.clock = clock
        self._changed = trio.Event()
        server.on_change = self._note

    def _note(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def look_again(self, seconds: float = LOOK_INTERVAL) -> None:
        """Let it look, and see something new."""
        changed = self._changed
        await trio.testing.wait_all_tasks_blocked()
        self.clock.jump(seconds)
        await changed.wait()

    def states(self) -> dict[str, str]:
        return {info.name: info.state for info in self.server.models()}


@asynccontextmanager
async def attached(
    pages: dict[str, Page], clock: trio.testing.MockClock, **options: Any
) -> AsyncIterator[Attached]:
    async with serving(pages) as toy, trio.open_nursery() as nursery:
        server = AttachedServer(ME, ServerUrl.parse(toy.url), **options)
        await nursery.start(server.run)
        yield Attached(server, toy, clock)
        nursery.cancel_scope.cancel()


Test = Callable[[Attached], Awaitable[None]]


def run_attached(test: Test, pages: dict[str, Page] | None = None, **options: Any) -> None:
    clock = trio.testing.MockClock()

    async def main() -> None:
        async with attached(llama_server() if pages is None else pages, clock, **options) as each:
            await test(each)

    trio.run(main, clock=clock)


async def answer_of(server: AttachedServer, request: InferenceRequest) -> list[Any]:
    async with server.infer(request) as answer:
        return [each async for each in answer.events]


async def error_of(server: AttachedServer, request: InferenceRequest) -> FederationError:
    with pytest.raises(FederationError) as caught:
        await answer_of(server, request)
    return caught.value


def test_its_models_slots_and_answers_are_the_nodes() -> None:
    async def test(each: Attached) -> None:
        [record] = each.server.model_records()
        assert (record.name, record.state, record.slots, record.context_size) == ("tiny", "loaded", 2, 512)
        assert record.program == "llama-server"
        async with each.server.infer(chat()) as answer:
            assert (answer.served_by, answer.prompt_sha256) == (ME, bytes(32))
            assert each.server.load()[record.name].slots_busy == 1
            said = [event async for event in answer.events]
        assert said[:2] == [Chunk(0, (), "hel"), Chunk(0, (), "lo")]
        assert isinstance(said[2], Done)
        assert each.server.load()[record.name].slots_busy == 0
        [asked] = each.toy.asked_for(CHAT)
        assert asked.body["model"] == "tiny.gguf"

    run_attached(test)


def test_answers_are_left_in_any_order() -> None:
    async def test(each: Attached) -> None:
        await check_no_scope_stays_open(each.server, chat())

    run_attached(test)


REFUSES_BOTH = page(
    400,
    {
        "error": {
            "code": 400,
            "message": "Cannot set both add_generation_prompt and continue_final_message to true.",
            "type": "invalid_request_error",
        }
    },
)
"""What a llama-server of version b1-0c1e570 said."""


def begun() -> InferenceRequest:
    messages = ({"role": "user", "content": "Count."}, {"role": "assistant", "content": "1, 2,"})
    return ask("chat", messages=messages, is_begun=True)


def test_a_llama_server_that_can_goes_on_in_the_last_message_of_a_chat() -> None:
    async def test(each: Attached) -> None:
        said = await answer_of(each.server, begun())
        assert said[:2] == [Chunk(0, (), "hel"), Chunk(0, (), "lo")]
        [asked] = each.toy.asked_for(CHAT)
        assert (asked.body["continue_final_message"], asked.body["add_generation_prompt"]) == (True, False)
        each.toy.pages["/v1/models"] = models("other", "tiny")
        await each.look_again()
        assert len(each.toy.asked_for("/apply-template")) == 1, "it is asked once"

    run_attached(test, {**llama_server(), "/apply-template": REFUSES_BOTH})


@pytest.mark.parametrize(
    "says",
    [
        {},
        {"/apply-template": page(200, {"prompt": "<user>a<assistant>b<assistant>"})},
        {"/apply-template": page(400, {"error": {"code": 400, "message": "a model must be named"}})},
    ],
    ids=["has no such page", "begins another message", "finds something else wrong"],
)
def test_one_that_may_begin_another_message_is_not_asked_to(says: dict[str, Page]) -> None:
    async def test(each: Attached) -> None:
        error = await error_of(each.server, begun())
        assert isinstance(error, Refused)
        assert error.reason == "resume_mismatch"
        assert not each.toy.asked_for(CHAT)

    run_attached(test, llama_server() | says)


def test_models_come_and_go() -> None:
    async def test(each: Attached) -> None:
        each.toy.pages["/v1/models"] = models("other", "tiny")
        await each.look_again()
        assert each.states() == {"other": "loaded", "tiny": "loaded"}
        each.toy.pages["/v1/models"] = models("other")
        await each.look_again()
        assert each.states() == {"other": "loaded"}
        error = await error_of(each.server, chat())
        assert isinstance(error, Refused)
        assert error.reason == "no_such_model"

    run_attached(test)


def test_one_that_is_down_says_so_and_is_back_as_soon_as_it_answers() -> None:
    async def test(each: Attached) -> None:
        each.toy.stop()
        # Nobody waits for the next look: whoever asks in vain brings it forward.
        error = await error_of(each.server, chat())
        assert isinstance(error, Refused)
        assert error.reason == "model_failed"
        await each.look_again(0.5)
        assert each.states() == {"tiny": "failed"}
        [record] = each.server.model_records()
        assert "no server answers at" in record.reason
        assert "start it" in record.reason
        assert record.slots == 0
        count = len(each.toy.asked)
        error = await error_of(each.server, chat())
        assert isinstance(error, Refused)
        assert str(error) == record.reason
        assert len(each.toy.asked) == count

        async with trio.open_nursery() as nursery:
            await nursery.start(each.toy.serve)
            await each.look_again()
            assert each.states() == {"tiny": "loaded"}
            assert len(await answer_of(each.server, chat())) == 3
            nursery.cancel_scope.cancel()

    run_attached(test)


def test_one_that_loads_is_no_failure() -> None:
    async def test(each: Attached) -> None:
        loading = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
        each.toy.pages["/v1/models"] = page(503, loading)
        await each.look_again()
        assert each.states() == {"tiny": "loading"}
        error = await error_of(each.server, chat())
        assert isinstance(error, Refused)
        assert error.reason == "loading"

    run_attached(test)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (page(401, {"error": "no"}), "--backend-key"),
        (page(404, {}), "no OpenAI-compatible server"),
        (page(500, {"error": {"message": "out of luck"}}), "out of luck"),
        (page(200, b"<html>"), "not JSON"),
        (page(200, {"data": "x"}), "not a list"),
        (page(200, {"data": []}, "content-encoding: gzip"), "compressed"),
        (page(200, b" " * (BODY_SIZE_MAX + 1)), "more than"),
        (models("a", owner="localai-node"), "is a localai-node itself"),
    ],
)
def test_what_is_no_server_of_models_is_told_in_words(answer: Page, words: str) -> None:
    async def test(each: Attached) -> None:
        each.toy.pages["/v1/models"] = answer
        await each.look_again()
        assert words in each.server.model_records()[0].reason

    pages = llama_server()
    # Not known by a name, so that it is asked again who it is.
    pages["/v1/models"] = models("tiny", owner="somebody")
    run_attached(test, pages)


def test_a_node_of_ours_is_recognised_although_it_has_no_models(caplog: pytest.LogCaptureFixture) -> None:
    async def test(each: Attached) -> None:
        assert not each.server.models()

    pages = {"/v1/models": models(), "/version": page(200, {"name": "localai-node", "version": "0.1.0"})}
    with caplog.at_level(logging.WARNING):
        run_attached(test, pages)
    assert "join its swarm with a token" in caplog.text


def test_more_than_it_can_do_at_once_is_refused_and_leaving_frees_the_slot() -> None:
    async def test(each: Attached) -> None:
        each.toy.pages[CHAT] = stream(event("a"), event("b", "stop"), END, gate=trio.Event())
        async with each.server.infer(chat()) as answer:
            assert await anext(answer.events) == Chunk(0, (), "a")
            error = await error_of(each.server, chat())
            assert isinstance(error, Refused)
            assert error.reason == "busy"
            assert error.load is not None
            assert (error.load.slots_total, error.load.slots_busy) == (1, 1)
        assert each.server.load()[ModelName("tiny")].slots_busy == 0
        # The server is told by the end of the connection.
        await each.toy.asked_for(CHAT)[0].client_left.wait()
        each.toy.pages[CHAT] = ANSWER
        assert len(await answer_of(each.server, chat())) == 3

    run_attached(test, llama_server(slots=1))


def test_slots_are_as_many_as_was_said_whatever_the_server_says() -> None:
    async def test(each: Attached) -> None:
        assert each.server.model_records()[0].slots == 7

    run_attached(test, slots=7)


def test_cancelling_a_request_hangs_up_on_the_server() -> None:
    async def test(each: Attached) -> None:
        reached = trio.Event()
        each.toy.pages[CHAT] = hang(reached)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_of, each.server, chat())
            await reached.wait()
            nursery.cancel_scope.cancel()
        assert each.server.load()[ModelName("tiny")].slots_busy == 0
        await each.toy.asked_for(CHAT)[0].client_left.wait()

    run_attached(test)


def test_a_server_without_a_word_is_accepted_after_a_while_and_progress_is_told() -> None:
    async def test(each: Attached) -> None:
        reached, gate = trio.Event(), trio.Event()

        async def answer_later(asked: Asked) -> None:
            reached.set()
            await gate.wait()
            await ANSWER(asked)

        each.toy.pages[CHAT] = answer_later
        asked_at = trio.current_time()

        async def jump_past_acceptance() -> None:
            await reached.wait()
            await trio.testing.wait_all_tasks_blocked()
            each.clock.jump(ACCEPT_AFTER)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(jump_past_acceptance)
            async with each.server.infer(chat()) as answer:
                assert trio.current_time() - asked_at == pytest.approx(ACCEPT_AFTER, abs=0.01)
                for _ in range(3):
                    nursery.start_soon(jump_when_quiet, each.clock, PROGRESS_INTERVAL)
                    assert await anext(answer.events) == Progress(0, 0)
                gate.set()
                assert [type(event) async for event in answer.events][-1] is Done

    run_attached(test)


async def jump_when_quiet(clock: trio.testing.MockClock, seconds: float) -> None:
    await trio.testing.wait_all_tasks_blocked()
    clock.jump(seconds)


def test_a_refusal_after_acceptance_is_a_failure() -> None:
    async def test(each: Attached) -> None:
        gate = trio.Event()

        async def refuse_later(asked: Asked) -> None:
            await gate.wait()
            await page(429, {"error": "full"})(asked)

        each.toy.pages[CHAT] = refuse_later
        async with trio.open_nursery() as nursery:
            nursery.start_soon(jump_when_quiet, each.clock, ACCEPT_AFTER)
            async with each.server.infer(chat()) as answer:
                gate.set()
                with pytest.raises(Failed, match="full"):
                    await anext(answer.events)

    run_attached(test)


def test_the_deadline_holds_before_and_after_acceptance() -> None:
    async def test(each: Attached) -> None:
        each.toy.pages[CHAT] = hang()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(jump_when_quiet, each.clock, 2.0)
            assert isinstance(await error_of(each.server, chat(timeout=1.0)), DeadlineExceeded)
        each.toy.pages[CHAT] = stream(event("a"), END, gate=trio.Event())
        async with each.server.infer(chat(timeout=0.5)) as answer:
            await anext(answer.events)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(jump_when_quiet, each.clock, 0.6)
                with pytest.raises(DeadlineExceeded):
                    await anext(answer.events)

    run_attached(test)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (stream(event("a")), "before the answer was complete"),
        (stream(event("a"), END), "before the answer was complete"),
        (stream(b"data: {garbage\n\n"), "not JSON"),
        (stream(b"data: " + b"x" * 5_000_000), "more than"),
        (stream(b'data: {"error":{"message":"out of memory"}}\n\n'), "out of memory"),
        (page(500, {"error": {"message": "out of luck"}}), "out of luck"),
        (page(200, b"<html>", "content-encoding: br"), "compressed"),
    ],
)
def test_an_answer_that_cannot_be_read_fails_that_request_only(answer: Page, words: str) -> None:
    async def test(each: Attached) -> None:
        each.toy.pages[CHAT] = answer
        error = await error_of(each.server, chat())
        assert isinstance(error, Failed)
        assert words in str(error)
        assert each.server.load()[ModelName("tiny")].slots_busy == 0
        each.toy.pages[CHAT] = ANSWER
        assert len(await answer_of(each.server, chat())) == 3

    run_attached(test)


def test_a_connection_that_breaks_in_the_middle_fails_the_answer() -> None:
    async def test(each: Attached) -> None:
        async def break_off(asked: Asked) -> None:
            await asked.head(200, "content-type: text/event-stream", "content-length: 10000")
            await asked.stream.send_all(event("a"))

        each.toy.pages[CHAT] = break_off
        async with each.server.infer(chat()) as answer:
            assert await anext(answer.events) == Chunk(0, (), "a")
            with pytest.raises(Failed, match="connection to it broke"):
                await anext(answer.events)

    run_attached(test)


@pytest.mark.parametrize(
    ("status", "reason"), [(429, "busy"), (503, "busy"), (404, "no_such_model"), (401, "model_failed")]
)
def test_what_it_refuses_is_refused(status: int, reason: str) -> None:
    async def test(each: Attached) -> None:
        each.toy.pages[CHAT] = page(status, {"error": {"message": "the model says no"}})
        error = await error_of(each.server, chat())
        assert isinstance(error, Refused)
        assert error.reason == reason

    run_attached(test)


def test_what_it_finds_wrong_and_what_it_cannot_do_are_bad_requests() -> None:
    async def test(each: Attached) -> None:
        each.toy.pages[CHAT] = page(400, {"error": {"message": "bad tools", "param": "tools"}})
        error = await error_of(each.server, chat())
        assert isinstance(error, BadRequest)
        assert error.param == "tools"
        error = await error_of(each.server, chat(resume=Resume(bytes(32), (Delivered((1,)),))))
        assert isinstance(error, Refused)
        assert error.reason == "resume_mismatch"
        assert isinstance(await error_of(each.server, ask("completion", prompt="x", suffix="y")), BadRequest)

    run_attached(test)


def test_tools_that_a_template_does_not_know_are_refused() -> None:
    tools = ({"type": "function", "function": {"name": "look"}},)

    async def test(each: Attached) -> None:
        error = await error_of(each.server, chat(tools=tools))
        assert isinstance(error, BadRequest)
        assert error.param == "tools"
        assert len(await answer_of(each.server, chat(tools=tools, tool_choice="none"))) == 3

    props = {"total_slots": 1, "chat_template_caps": {"supports_tools": False}}
    run_attached(test, {**llama_server(), "/props": page(200, props)})


def test_a_model_of_a_certain_file_is_not_one_nobody_knows_the_file_of() -> None:
    async def test(each: Attached) -> None:
        wanted = ModelName(f"tiny@sha256:{'a' * 64}")
        error = await error_of(
            each.server, InferenceRequest("chat", RequestId("r1"), wanted, messages=({"role": "user"},))
        )
        assert isinstance(error, Refused)
        assert error.reason == "no_such_model"

    run_attached(test)


def test_one_that_hangs_is_found_out_and_what_it_owes_is_given_up() -> None:
    async def test(each: Attached) -> None:
        each.toy.pages[CHAT] = stream(event("a"), event("b"), gate=trio.Event())
        async with each.server.infer(chat()) as answer:
            await anext(answer.events)
            looks = [trio.Event() for _ in range(MISSES_MAX)]
            for reached in looks:
                each.toy.pages["/v1/models"] = hang(reached)
                await jump_when_quiet(each.clock, LOOK_INTERVAL)
                await reached.wait()
                assert each.states() == {"tiny": "loaded"}
                await jump_when_quiet(each.clock, LOOK_TIMEOUT)
            # Progress that became due meanwhile comes first.
            with pytest.raises(Failed, match="does not answer within"):
                [event async for event in answer.events]
        assert each.states() == {"tiny": "failed"}

    run_attached(test)


def test_a_stream_of_llama_cpp_server_is_not_ended_by_looks() -> None:
    async def test(each: Attached) -> None:
        assert each.server.model_records()[0].program == "llama_cpp.server"
        for _ in range(3):
            before = len(each.toy.asked)
            await jump_when_quiet(each.clock, LOOK_INTERVAL)
            while len(each.toy.asked) == before:
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(each.toy.asked_for("/v1/models")) == 1
        assert len(each.toy.asked_for("/health")) == 3

    run_attached(test, {"/v1/models": models("tiny", owner="me")})


def test_ollama_and_lm_studio_are_known_by_their_own_lists() -> None:
    async def with_ollama(each: Attached) -> None:
        first, second = each.server.model_records()
        assert (first.name, first.state, first.capabilities) == ("minilm", "cold", ("embeddings",))
        assert (second.name, second.state, second.context_size) == ("tiny", "loaded", 4096)
        assert second.program == "Ollama"
        # What one is for is asked once.
        asked = len(each.toy.asked_for("/api/show"))
        each.toy.pages["/api/ps"] = page(200, {"models": []})
        await each.look_again()
        assert len(each.toy.asked_for("/api/show")) == asked

    async def show(asked: Asked) -> None:
        is_minilm = asked.body["model"] == "minilm"
        await page(200, {"capabilities": ["embedding" if is_minilm else "completion"]})(asked)

    ollama = {
        "/v1/models": models("tiny", "minilm", owner="library"),
        "/api/tags": page(200, {"models": [{"name": "tiny"}, {"name": "minilm"}]}),
        "/api/ps": page(200, {"models": [{"name": "tiny", "context_length": 4096}]}),
        "/api/show": show,
    }
    run_attached(with_ollama, ollama)

    async def with_lm_studio(each: Attached) -> None:
        [record] = each.server.model_records()
        assert (record.program, record.state, record.slots) == ("LM Studio", "cold", 4)

    listed = page(200, {"data": [{"id": "tiny", "type": "llm", "state": "not-loaded"}]})
    run_attached(
        with_lm_studio, {"/v1/models": models("tiny", owner="organization_owner"), "/api/v0/models": listed}
    )


def test_embeddings_come_in_several_questions_and_lookups_take_no_slot() -> None:
    async def embed(asked: Asked) -> None:
        vectors = [{"index": index, "embedding": [1.0]} for index in range(len(asked.body["input"]))]
        await page(200, {"data": vectors, "usage": {"prompt_tokens": 5}})(asked)

    async def test(each: Attached) -> None:
        said = await answer_of(each.server, ask("embeddings", inputs=("a",) * (INPUTS_PER_QUESTION + 1)))
        assert [chunk.choice for chunk in said[:-1]] == list(range(INPUTS_PER_QUESTION + 1))
        assert said[-1].usage.prompt_tokens == 10
        each.toy.pages[CHAT] = stream(event("a"), END, gate=trio.Event())
        async with each.server.infer(chat()):
            assert isinstance(await error_of(each.server, chat()), Refused)
            said = await answer_of(each.server, ask("tokenize", prompt="hi"))
            assert said[0] == Chunk(0, (1, 2), "")

    pages = llama_server(slots=1)
    pages |= {"/v1/embeddings": embed, "/tokenize": page(200, {"tokens": [1, 2]})}
    run_attached(test, pages)


def test_a_slow_reader_slows_the_server_down() -> None:
    async def test(each: Attached) -> None:
        blocked = trio.Event()

        async def flood(asked: Asked) -> None:
            await asked.head(200, "content-type: text/event-stream")
            piece = event("x" * 100_000)
            for _ in range(1000):
                with trio.move_on_after(1.0) as patience:
                    await asked.stream.send_all(piece)
                if patience.cancelled_caught:
                    blocked.set()
                    return

        each.toy.pages[CHAT] = flood
        async with each.server.infer(chat()) as answer:
            await anext(answer.events)
            while not blocked.is_set():
                await trio.testing.wait_all_tasks_blocked(0.05)
                each.clock.jump(1.0)

    run_attached(test)


def test_draining_ends_what_runs_first() -> None:
    async def test(each: Attached) -> None:
        gate, drained = trio.Event(), trio.Event()
        each.toy.pages[CHAT] = stream(event("a"), event("b", "stop"), END, gate=gate)

        async def drain() -> None:
            await each.server.drain()
            drained.set()

        async with trio.open_nursery() as nursery:
            async with each.server.infer(chat()) as answer:
                await anext(answer.events)
                nursery.start_soon(drain)
                await trio.testing.wait_all_tasks_blocked()
                error = await error_of(each.server, chat())
                assert isinstance(error, Refused)
                assert error.reason == "draining"
                assert not drained.is_set()
                gate.set()
                assert [type(event) async for event in answer.events][-1] is Done
            await drained.wait()

    run_attached(test)


def test_a_key_is_shown_to_the_server_and_to_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    async def test(each: Attached) -> None:
        assert each.toy.asked[0].headers["authorization"] == "Bearer hunter2"
        await answer_of(each.server, chat())
        assert each.toy.asked_for(CHAT)[0].headers["authorization"] == "Bearer hunter2"
        each.toy.pages["/v1/models"] = page(401, {"error": "hunter2 is wrong"})
        await each.look_again()
        assert "hunter2" not in repr(vars(each.server))

    with caplog.at_level(logging.DEBUG):
        run_attached(test, key="hunter2")
    assert "hunter2" not in caplog.text


def test_no_proxy_of_the_environment_comes_between(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def test(each: Attached) -> None:
        assert each.states() == {"tiny": "loaded"}

    run_attached(test)


def test_what_it_says_fits_a_frame_to_a_peer() -> None:
    async def test(each: Attached) -> None:
        text = json.dumps(
            {"choices": [{"index": 0, "delta": {"content": "\ud83d"}, "finish_reason": "stop"}]}
        )
        each.toy.pages[CHAT] = stream(f"data: {text}\n\n".encode(), END)
        for said in await answer_of(each.server, chat()):
            assert decode_from_worker_untrusted(msgpack.unpackb(msgpack.packb(encode(said)))) == said
            if isinstance(said, Chunk):
                assert said.text.encode() == "\ufffd".encode()

    run_attached(test)
