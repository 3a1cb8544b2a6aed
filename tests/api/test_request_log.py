"""One line in the log for each request, whatever became of it, and nothing in it that was said."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from federation.errors import Busy, ContextTooLong, DeadlineExceeded, Failed, ModelNotFound, ModelUnavailable
from tests.api.stub_backend import SERVED_BY, Hang, hanging_in, words
from tests.asgi import HungUp

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.conftest import Bench

SECRET = "only between us"
KEY = "sk-very-private"


@pytest.fixture(autouse=True)
def _at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="api")


def line(caplog: pytest.LogCaptureFixture, event: str = "request") -> dict[str, Any]:
    """The one line there is, and nothing of what was said in any."""
    [record] = [record for record in caplog.records if record.name == "api.request_report"]
    assert record.getMessage() == event
    assert all(
        SECRET not in str(record.__dict__) and KEY not in str(record.__dict__) for record in caplog.records
    )
    return record.__dict__


def ask(bench: Bench, **parameters: Any) -> Any:
    """A chat that has something to hide."""
    body = {"model": "stub", "messages": [{"role": "user", "content": SECRET}], **parameters}
    headers = {"authorization": f"Bearer {KEY}", "x-request-id": "trace-7"}
    return bench.call("POST", "/v1/chat/completions", body, headers=headers)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_told_of_with_who_and_how_long(
    new_bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    bench = new_bench(accept_after=0.5, script=[1.5, words(SECRET)[0], 0.25, *words(SECRET, SECRET)])
    assert ask(bench, stream=stream).status == 200
    said = line(caplog)
    fields = [name for name in said if name not in logging.makeLogRecord({}).__dict__ | {"message": ""}]
    assert {name: said[name] for name in fields} == {
        "request_id": "trace-7",
        "path": "/v1/chat/completions",
        "kind": "chat",
        "model": "stub",
        "peer": SERVED_BY,
        "attempts": 1,
        "resumes": 0,
        "queue_s": 0,
        "route_s": 0,
        "connect_s": 0.5,
        "prefill_s": 1.5,
        "decode_s": 0.25,
        "prompt_tokens": 5,
        "cached_tokens": 2,
        "completion_tokens": 2,
        "finish": "stop",
        "total_s": 2.25,
        "status": "ok",
        "http_status": 200,
    }


@pytest.mark.parametrize(
    ("error", "http_status", "status"),
    [
        (Busy("every slot is taken"), 429, "busy"),
        (ModelUnavailable("it cannot run now"), 503, "model_unavailable"),
        (ModelNotFound("nobody has it"), 404, "model_not_found"),
        (ContextTooLong("too long"), 400, "context_length_exceeded"),
        (DeadlineExceeded("too late"), 504, "deadline_exceeded"),
        (Failed("it broke"), 502, "worker_failed"),
        (RuntimeError("odd"), 500, "internal_error"),
    ],
)
def test_a_request_that_nobody_serves_is_told_of(
    new_bench: Callable[..., Bench],
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    http_status: int,
    status: str,
) -> None:
    assert ask(new_bench(on_enter=error)).status == http_status
    said = line(caplog)
    assert (said["http_status"], said["status"], said["model"]) == (http_status, status, "stub")
    assert "peer" not in said


def test_what_is_refused_unread_is_told_of(
    new_bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    assert ask(new_bench(settings={"api_keys": frozenset({"another"})})).status == 401
    said = line(caplog)
    assert (said["http_status"], "model" in said) == (401, False)


@pytest.mark.parametrize("wrong", [{"temperature": SECRET}, {"model": None}, {"stop": [SECRET] * 99}])
def test_a_wrong_request_is_told_of(
    bench: Bench, caplog: pytest.LogCaptureFixture, wrong: dict[str, Any]
) -> None:
    assert ask(bench, **wrong).status == 400
    said = line(caplog)
    assert (said["http_status"], said["status"]) == (400, "invalid_request_error")


def test_a_stream_that_breaks_is_told_of_with_how_far_it_came(
    new_bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    ask(new_bench(script=[1.0, words("a")[0], 0.5, Failed(SECRET)]), stream=True)
    said = line(caplog)
    assert (said["http_status"], said["status"], said["peer"]) == (200, "worker_failed", SERVED_BY)
    assert (said["prefill_s"], said["decode_s"], "finish" in said) == (1.0, 0.5, False)


@pytest.mark.parametrize("phase", ["waiting", "prefill", "decode"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_is_told_of(
    new_bench: Callable[..., Bench],
    run_mocked: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    phase: str,
    stream: bool,
) -> None:
    bench = new_bench(**hanging_in(phase))

    async def main() -> None:
        body = {"model": "stub", "prompt": SECRET, "stream": stream}
        async with bench.open("POST", "/v1/completions", json_body=body) as exchange:
            if stream and phase == "decode":
                await exchange.head()
                await exchange.messages.receive()
            await trio.testing.wait_all_tasks_blocked()

    run_mocked(main)
    said = line(caplog)
    started = stream and phase == "decode"
    assert (said["status"], said["http_status"]) == ("cancelled", 200 if started else 499)


def test_a_client_that_hangs_up_while_it_asks_is_told_of(
    bench: Bench, run_mocked: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        headers = {"content-type": "application/json", "content-length": "100"}

        async def pieces() -> Any:
            yield b'{"model": '
            raise HungUp

        async with bench.open("POST", "/v1/completions", pieces=pieces(), headers=headers):
            await trio.testing.wait_all_tasks_blocked()

    run_mocked(main)
    said = line(caplog)
    assert (said["status"], said["http_status"]) == ("cancelled", 499)


def test_a_request_that_ends_with_the_node_is_told_of(
    new_bench: Callable[..., Bench], run_mocked: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    bench = new_bench(script=[Hang()])

    async def main() -> None:
        with trio.move_on_after(5):
            async with bench.open(
                "POST", "/v1/completions", json_body={"model": "stub", "prompt": SECRET}
            ) as exchange:
                await exchange.head()

    run_mocked(main)
    assert line(caplog)["status"] == "stopped"


def test_several_prompts_are_one_line(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.call("POST", "/v1/completions", {"model": "stub", "prompt": [SECRET, SECRET, SECRET]})
    said = line(caplog)
    assert (said["attempts"], said["prompt_tokens"], said["completion_tokens"]) == (3, 15, 6)


def test_a_question_without_text_is_told_of_too(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.call("POST", "/v1/tokenize", {"model": "stub", "content": SECRET})
    assert line(caplog)["kind"] == "tokenize"


def test_what_is_asked_every_few_seconds_is_told_of_in_debug_only(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.call("GET", "/healthz")
    said = line(caplog, "http")
    assert (said["levelno"], said["path"], said["status"]) == (logging.DEBUG, "/healthz", "ok")
