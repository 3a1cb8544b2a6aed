"""The HTTP server on a real loopback port, asked by OpenAI's own client."""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest
import trio
import trio.testing
from fastapi import FastAPI
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from api.app import create_app
from api.errors import AddressInUse, ListenFailed
from api.serve import ServerAddress, serve
from api.settings import ApiSettings
from federation.backend import AnswerEvent, Chunk, Done, Timings, TokenLogprob, ToolCallDelta, Usage
from federation.errors import BadRequest, Busy, ContextTooLong, Failed, ModelNotFound, ModelUnavailable
from tests.api.stub_backend import SERVED_BY, Hang, StubBackend, words
from tests.api.stub_manager import StubManager

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from openai.types.chat import ChatCompletionMessageParam

pytestmark = pytest.mark.real


MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Capital of France?"}]


class Status:
    def swarm(self) -> Mapping[str, Any]:
        return {}

    def refused_entries(self) -> Mapping[str, int]:
        return {}

    def peer_counts(self) -> Mapping[str, Mapping[str, int]]:
        return {}

    def engines(self) -> Mapping[str, Any]:
        return {}

    def explain_route(self, model: str, prompt_tokens: int, max_tokens: int | None) -> dict[str, Any]:
        raise NotImplementedError

    async def shut_down(self, model: str) -> bool:
        return False

    def readiness(self) -> str | None:
        return None


def app_over(backend: StubBackend) -> FastAPI:
    return create_app(backend, ApiSettings(version="1"), Status(), StubManager())


@asynccontextmanager
async def server(
    app: FastAPI, *, grace: float = 5.0, scope: trio.CancelScope | None = None
) -> AsyncIterator[tuple[ServerAddress, trio.Event]]:
    """A server on a free port and what stops it; cancelling `scope` cancels the server alone."""
    stop = trio.Event()

    async def serve_within(*, task_status: trio.TaskStatus[ServerAddress]) -> None:
        with scope or trio.CancelScope():
            await serve(app, "127.0.0.1", 0, stop=stop, grace=grace, task_status=task_status)

    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_within)
        yield address, stop
        stop.set()


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(30):
            await main()

    trio.run(bounded)


def client_of(address: ServerAddress, timeout: float = 20) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address.url}/v1", api_key="any", max_retries=0, timeout=timeout)


async def ask(address: ServerAddress, use: Callable[[openai.OpenAI], Any], timeout: float = 20) -> Any:
    """Run `use` with a client in a thread: the async one leaves unfinished generators to trio."""

    def in_thread() -> Any:
        with client_of(address, timeout) as client:
            return use(client)

    return await trio.to_thread.run_sync(in_thread)


def test_the_official_client_streams_and_reads_whole_answers() -> None:
    backend = StubBackend()

    def use(client: openai.OpenAI) -> None:
        whole = client.chat.completions.with_raw_response.create(model="stub", messages=MESSAGES)
        assert whole.headers["x-localai-peer"] == SERVED_BY
        assert whole.parse().choices[0].message.content == "Paris"
        stream = client.chat.completions.create(
            model="stub", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Paris"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.total_tokens == 7
        completion = client.completions.create(model="stub", prompt="The capital is")
        assert completion.choices[0].text == "Paris"
        assert [model.id for model in client.models.list()] == ["stub"]

    async def main() -> None:
        async with server(app_over(backend)) as (address, _):
            await ask(address, use)

    run(main)
    assert backend.running == 0


def test_the_official_client_reads_calls_probabilities_and_several_choices() -> None:
    call = ToolCallDelta(0, "call_1", "weather", '{"city":')
    script: list[AnswerEvent] = [
        Chunk(0, (1,), "", reasoning="Hm.", logprobs=(TokenLogprob(b"Hm.", -0.5),)),
        Chunk(1, (2,), "No.", logprobs=(TokenLogprob(b"No.", -0.25, ((b"No.", -0.25),)),)),
        Chunk(0, (3,), "", tool_calls=(call,)),
        Chunk(0, (4,), "", tool_calls=(ToolCallDelta(0, arguments=' "Paris"}'),)),
        Done(("tool_calls", "stop"), Usage(5, 4, 1), Timings()),
    ]
    backend = StubBackend(script)

    def use(client: openai.OpenAI) -> None:
        options: dict[str, Any] = {
            "model": "stub",
            "messages": MESSAGES,
            "tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}],
            "n": 2,
            "logprobs": True,
            "top_logprobs": 1,
        }
        whole = client.chat.completions.create(**options)
        with client.chat.completions.stream(**options) as stream:
            streamed = stream.get_final_completion()
        pairs: Any = (whole.choices, streamed.choices)
        for calling, saying in pairs:
            assert calling.finish_reason == "tool_calls"
            assert calling.message.tool_calls[0].id == "call_1"
            assert calling.message.tool_calls[0].function.arguments == '{"city": "Paris"}'
            assert calling.message.reasoning_content == "Hm."
            assert saying.message.content == "No."
            assert saying.logprobs.content[0].top_logprobs[0].logprob == -0.25
        assert whole.usage.prompt_tokens_details.cached_tokens == 1

    async def main() -> None:
        async with server(app_over(backend)) as (address, _):
            await ask(address, use)

    run(main)
    assert backend.requests[0].choices == 2


def test_the_official_client_reads_vectors() -> None:
    vector = struct.pack("<3f", 0.5, -1.0, 0.25)
    script: list[AnswerEvent] = [Chunk(0, (), "", vector=vector), Done((), Usage(3, 0), Timings())]

    def use(client: openai.OpenAI) -> None:
        # As base64, unless it is told otherwise.
        assert client.embeddings.create(model="stub", input="text").data[0].embedding == [0.5, -1.0, 0.25]
        found = client.embeddings.create(model="stub", input="text", encoding_format="float", dimensions=2)
        assert found.data[0].embedding == pytest.approx([0.4472136, -0.8944272])
        assert found.usage.total_tokens == 3

    async def main() -> None:
        async with server(app_over(StubBackend(script))) as (address, _):
            await ask(address, use)

    run(main)


def test_langchain_streams_and_reads_whole_answers() -> None:
    async def main() -> None:
        async with server(app_over(StubBackend())) as (address, _):

            def use() -> None:
                model = ChatOpenAI(
                    model="stub", base_url=f"{address.url}/v1", api_key=SecretStr("any"), max_retries=0
                )
                assert model.invoke("Capital of France?").content == "Paris"
                assert "".join(str(chunk.content) for chunk in model.stream("Capital of France?")) == "Paris"

            await trio.to_thread.run_sync(use)

    run(main)


@pytest.mark.parametrize(
    ("error", "expected", "code"),
    [
        (BadRequest("top_k is negative"), openai.BadRequestError, None),
        (ContextTooLong("5000 tokens, 4096 fit"), openai.BadRequestError, "context_length_exceeded"),
        (ModelNotFound("no model 'x'"), openai.NotFoundError, "model_not_found"),
        (Busy("all slots are taken"), openai.RateLimitError, "busy"),
        (ModelUnavailable("not a GGUF file"), openai.InternalServerError, "model_unavailable"),
        (Failed("the engine died"), openai.InternalServerError, "worker_failed"),
    ],
)
def test_errors_are_the_official_clients_own(
    error: Exception, expected: type[openai.APIStatusError], code: str | None
) -> None:
    def use(client: openai.OpenAI) -> None:
        with pytest.raises(expected, match=str(error)) as raised:
            client.chat.completions.create(model="x", messages=MESSAGES)
        assert raised.value.code == code

    async def main() -> None:
        async with server(app_over(StubBackend(on_enter=error))) as (address, _):
            await ask(address, use)

    run(main)


def test_a_stream_that_breaks_raises_in_the_official_client() -> None:
    backend = StubBackend(script=[words("Par")[0], Failed("the peer went away")])

    def use(client: openai.OpenAI) -> None:
        stream = client.chat.completions.create(model="stub", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match="the peer went away"):
            list(stream)

    async def main() -> None:
        async with server(app_over(backend)) as (address, _):
            await ask(address, use)

    run(main)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_frees_the_backend(stream: bool) -> None:
    backend = StubBackend(script=[*words("Par")[:1], Hang()])

    def use(client: openai.OpenAI) -> None:
        if stream:
            answer = client.chat.completions.create(model="stub", messages=MESSAGES, stream=True)
            next(iter(answer))
            answer.close()
        else:
            with pytest.raises(openai.APITimeoutError):
                client.chat.completions.create(model="stub", messages=MESSAGES)

    async def main() -> None:
        async with server(app_over(backend)) as (address, _):
            await ask(address, use, timeout=0.3)
            await backend.idle.wait()
            assert (backend.running, backend.cancelled) == (0, 1)

    run(main)


def test_a_large_body_gets_its_413_although_it_is_not_read() -> None:
    async def main() -> None:
        async with server(app_over(StubBackend())) as (address, _), httpx.AsyncClient() as client:
            reply = await client.post(
                f"{address.url}/v1/chat/completions",
                content=b"x" * 100_000_000,
                headers={"content-type": "application/json"},
            )
            assert reply.status_code == 413
            assert (await client.get(f"{address.url}/healthz")).status_code == 200

    run(main)


def test_stopping_lets_a_running_answer_finish() -> None:
    backend = StubBackend(script=[*words("Par")[:1], 0.5, *words("is")])

    async def main() -> None:
        async with server(app_over(backend)) as (address, stop):

            def use(client: openai.OpenAI) -> str:
                stream = client.chat.completions.create(model="stub", messages=MESSAGES, stream=True)
                trio.from_thread.run_sync(stop.set)
                return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

            assert await ask(address, use) == "Paris"

    run(main)


def deaf_client(address: ServerAddress) -> AbstractAsyncContextManager[trio.SocketStream]:
    """A client that asks for a stream and reads nothing; entered when no byte moves any more."""
    return asking(address, "true")


@asynccontextmanager
async def asking(address: ServerAddress, stream: str) -> AsyncIterator[trio.SocketStream]:
    """A client that has asked; entered when no byte moves any more."""
    body = f'{{"model":"stub","prompt":"x","stream":{stream}}}'.encode()
    head = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    async with await trio.open_tcp_stream(address.host, address.port) as deaf:
        await deaf.send_all(f"POST /v1/completions HTTP/1.1\r\n{head}\r\n\r\n".encode() + body)
        await trio.testing.wait_all_tasks_blocked(cushion=0.1)
        yield deaf


@pytest.mark.parametrize("stream", ["true", "false"])
def test_a_client_that_wants_the_connection_closed_sees_its_end(stream: str) -> None:
    body = f'{{"model":"stub","prompt":"x","stream":{stream}}}'.encode()
    head = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"

    async def main() -> None:
        async with (
            server(app_over(StubBackend())) as (address, _),
            await trio.open_tcp_stream(address.host, address.port) as connection,
        ):
            head_line = f"POST /v1/completions HTTP/1.1\r\nConnection: close\r\n{head}\r\n\r\n"
            await connection.send_all(head_line.encode() + body)
            answer = b"".join([piece async for piece in connection])
            assert answer.startswith(b"HTTP/1.1 200")

    run(main)


def more_than_any_buffer() -> list[Any]:
    pieces: list[Any] = words(*["x" * 10_000] * 5_000)
    return pieces


@pytest.mark.parametrize("how", ["stop", "cancel"])
def test_a_client_that_stopped_reading_cannot_keep_the_server_alive(how: str) -> None:
    backend = StubBackend(script=more_than_any_buffer())

    async def main() -> None:
        scope = trio.CancelScope()
        async with (
            server(app_over(backend), grace=0.2, scope=scope) as (address, stop),
            deaf_client(address),
        ):
            assert backend.running == 1
            if how == "cancel":
                scope.cancel()
            else:
                stop.set()
            await backend.idle.wait()

    run(main)


def test_a_client_that_reads_late_gets_every_piece_once_and_in_order() -> None:
    count = 1_000
    pieces: list[Any] = words(*(f"<{number}>".ljust(10_000, "x") for number in range(count)))

    async def main() -> None:
        async with server(app_over(StubBackend(script=pieces))) as (address, _), deaf_client(address) as late:
            answer = bytearray()
            while b"[DONE]" not in answer[-100:]:
                answer += await late.receive_some()
            assert [int(number) for number in re.findall(rb"<(\d+)>", answer)] == list(range(count))

    run(main)


def test_a_client_that_stopped_reading_loses_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.serve.WRITE_TIMEOUT", 0.2)
    backend = StubBackend(script=more_than_any_buffer())

    async def main() -> None:
        async with server(app_over(backend)) as (address, _), deaf_client(address):
            await backend.idle.wait()
            assert backend.cancelled == 1

    run(main)


def test_one_connection_too_many_takes_the_place_of_the_one_that_waits_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.serve.CONNECTIONS_MAX", 2)

    async def main() -> None:
        async with (
            server(app_over(StubBackend())) as (address, _),
            httpx.AsyncClient() as client,
            await trio.open_tcp_stream(address.host, address.port) as first,
            await trio.open_tcp_stream(address.host, address.port) as second,
        ):
            await trio.testing.wait_all_tasks_blocked(cushion=0.05)
            assert (await client.get(f"{address.url}/healthz")).status_code == 200
            assert await first.receive_some() == b""
            await second.send_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await second.receive_some()).startswith(b"HTTP/1.1 200")

    run(main)


@pytest.mark.parametrize("stream", ["true", "false"])
def test_who_is_answered_makes_no_room_for_anybody(monkeypatch: pytest.MonkeyPatch, stream: str) -> None:
    monkeypatch.setattr("api.serve.CONNECTIONS_MAX", 1)
    backend = StubBackend(on_enter=Hang())

    async def main() -> None:
        async with (
            server(app_over(backend)) as (address, _),
            asking(address, stream),
            await trio.open_tcp_stream(address.host, address.port) as second,
        ):
            assert await second.receive_some() == b""
            assert backend.running == 1

    run(main)


def test_a_body_that_does_not_come_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.serve.CONNECTIONS_MAX", 1)
    head = (
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n"
    )

    async def main() -> None:
        async with (
            server(app_over(StubBackend())) as (address, _),
            httpx.AsyncClient() as client,
            await trio.open_tcp_stream(address.host, address.port) as slow,
        ):
            await slow.send_all(head + b"{")
            await trio.testing.wait_all_tasks_blocked(cushion=0.05)
            assert (await client.get(f"{address.url}/healthz")).status_code == 200
            assert await slow.receive_some() == b""

    run(main)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/healthz", None),
        ("/v1/chat/completions", {"model": "stub", "messages": MESSAGES}),
        ("/v1/chat/completions", {"model": "stub", "messages": MESSAGES, "stream": True}),
        ("/v1/chat/completions", {}),
    ],
)
def test_idle_connections_do_not_delay_a_stop(path: str, body: dict[str, Any] | None) -> None:
    async def main() -> None:
        async with httpx.AsyncClient() as client:
            async with server(app_over(StubBackend()), grace=20) as (address, stop):
                method = "GET" if body is None else "POST"
                reply = await client.request(method, f"{address.url}{path}", json=body)
                assert reply.status_code == (400 if body == {} else 200)
                started_at = trio.current_time()
                stop.set()
            assert trio.current_time() - started_at < 5

    run(main)


def test_a_taken_port_is_named() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(AddressInUse, match=f"127.0.0.1:{port}"):
                await serve(app_over(StubBackend()), "127.0.0.1", port, stop=trio.Event())

    run(main)


@pytest.mark.parametrize("host", ["192.0.2.1", "not..a.name"])
def test_a_host_that_is_not_ours_cannot_be_listened_on(host: str) -> None:
    async def main() -> None:
        with pytest.raises(ListenFailed, match=re.escape(host)):
            await serve(app_over(StubBackend()), host, 0, stop=trio.Event())

    run(main)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (ServerAddress("127.0.0.1", 80), "http://127.0.0.1:80"),
        (ServerAddress("0.0.0.0", 80), "http://127.0.0.1:80"),
        (ServerAddress("::", 80), "http://[::1]:80"),
    ],
)
def test_the_printed_url_can_be_opened(address: ServerAddress, url: str) -> None:
    assert address.url == url


@pytest.mark.parametrize(
    ("request_bytes", "status", "reason"),
    [
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, "malformed"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n", 400, "malformed"),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 17_000, 431, "more than 16384 bytes"),
        (b"POST /v1/tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: br\r\n\r\n", 501, "chunked"),
        (
            (
                b"POST /v1/tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\nfar too much\r\n"
            ),
            *(400, "malformed"),
        ),
    ],
    ids=["TLS", "header", "no host", "large head", "transfer encoding", "chunk"],
)
def test_what_the_protocol_refuses_is_an_error_object_too(
    request_bytes: bytes, status: int, reason: str
) -> None:
    async def main() -> None:
        async with (
            server(app_over(StubBackend())) as (address, _),
            await trio.open_tcp_stream(address.host, address.port) as connection,
        ):
            await connection.send_all(request_bytes)
            head, _, body = b"".join([piece async for piece in connection]).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert f"content-length: {len(body)}".encode() in head
        error = json.loads(body)["error"]
        assert reason in error.pop("message")
        assert error == {"type": "invalid_request_error", "param": None, "code": None}

    run(main)


def test_what_is_not_http_closes_only_its_own_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with server(app_over(StubBackend())) as (address, _), httpx.AsyncClient() as client:
            for noise in (
                b"\x16\x03\x01\x02\x00\x01",
                b"GET /\r\n\r\n",
                b"GET / HTTP/1.1\r\nA: " + b"x" * 50_000,
            ):
                stream = await trio.open_tcp_stream(address.host, address.port)
                await stream.send_all(noise)
                async for _data in stream:
                    pass
                await stream.aclose()
            assert (await client.get(f"{address.url}/healthz")).status_code == 200

    run(main)
    assert caplog.records == []
