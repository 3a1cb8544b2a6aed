"""Everything that can go wrong has a status, OpenAI's error object, and the server goes on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

import federation.errors
from api.error_table import ROWS, http_error_of
from federation.backend import Progress
from federation.errors import (
    BadRequest,
    Busy,
    ContextTooLong,
    DeadlineExceeded,
    Failed,
    FederationError,
    ModelNotFound,
    ModelUnavailable,
    Refused,
    TimedOut,
)
from tests.api.stub_backend import words

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.conftest import Bench


def test_every_error_of_the_federation_is_in_the_table() -> None:
    leaves = {
        each
        for each in vars(federation.errors).values()
        if isinstance(each, type) and issubclass(each, FederationError) and each is not FederationError
    }
    assert [each for each in leaves if not set(each.__mro__) & set(ROWS)] == []
    assert set(ROWS) <= leaves


def test_everything_to_be_tried_again_says_when() -> None:
    assert all(row.retry_after for row in ROWS.values() if row.status in (429, 503))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (BadRequest("no", param="stop"), (400, None, "stop")),
        (ContextTooLong("5000 tokens, 4096 fit"), (400, "context_length_exceeded", None)),
        (ModelNotFound("no model 'x'"), (404, "model_not_found", "model")),
        (Busy("all 4 slots are taken"), (429, "busy", None)),
        (TimedOut("no slot came free in 600 s"), (503, "no_slot_in_time", None)),
        (ModelUnavailable("failed to load: not GGUF"), (503, "model_unavailable", None)),
        (DeadlineExceeded("600 s are over"), (504, "deadline_exceeded", None)),
        (Failed("the engine died"), (502, "worker_failed", None)),
        (Refused("draining", "this node is draining"), (503, "refused", None)),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_before_the_first_token_has_its_own_status(
    new_bench: Callable[..., Bench], error: Exception, told: tuple[int, str | None, str | None], stream: bool
) -> None:
    reply = new_bench(on_enter=error).chat(stream=stream)
    body = reply.json()["error"]
    assert body["message"] == str(error)
    assert (reply.status, body["code"], body["param"]) == told
    assert ("retry-after" in reply.headers) == (reply.status in (429, 503))
    assert "x-request-id" in reply.headers


@pytest.mark.parametrize(("known", "said"), [(None, "2"), (0.0, "1"), (7.2, "8"), (1e9, "3600")])
@pytest.mark.parametrize("error", [Busy, TimedOut])
def test_who_is_sent_away_is_told_when_to_come_back(
    new_bench: Callable[..., Bench], error: type[Busy | TimedOut], known: float | None, said: str
) -> None:
    reply = new_bench(on_enter=error("full", retry_after=known)).chat()
    assert reply.headers["retry-after"] == said


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_after_acceptance_and_before_the_first_token_is_502(
    new_bench: Callable[..., Bench], stream: bool
) -> None:
    assert new_bench(script=[Failed("the engine died")]).chat(stream=stream).status == 502


def test_a_failure_in_the_middle_of_a_stream_is_its_last_event(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench(script=[words("Par")[0], Failed("the peer went away")])
    reply = bench.chat(stream=True)
    assert reply.status == 200
    assert reply.events()[-1]["error"]["message"] == "the peer went away"
    assert "[DONE]" not in reply.events()


def test_a_failure_after_a_long_prefill_is_the_streams_only_event(new_bench: Callable[..., Bench]) -> None:
    reply = new_bench(script=[11.0, Progress(10, 20), Failed("the peer went away")]).chat(stream=True)
    assert reply.events()[-1]["error"]["message"] == "the peer went away"
    assert "[DONE]" not in reply.events()


def test_a_failure_in_the_middle_of_a_whole_answer_is_502(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench(script=[words("Par")[0], Failed("the peer went away")])
    assert bench.chat().status == 502


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_without_an_end_is_not_passed_off_as_complete(
    new_bench: Callable[..., Bench], stream: bool
) -> None:
    reply = new_bench(script=words("Par", "is")[:-1]).chat(stream=stream)
    told = reply.events()[-1] if stream else reply.json()
    assert told["error"]["code"] == "worker_failed"


@pytest.mark.parametrize("stream", [False, True])
def test_a_bug_is_logged_once_and_tells_the_client_nothing(
    new_bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    bench = new_bench(on_enter=ZeroDivisionError("secret"))
    with caplog.at_level(logging.ERROR):
        reply = bench.chat(stream=stream)
    assert reply.status == 500
    assert reply.json()["error"]["code"] == "internal_error"
    assert b"secret" not in reply.body
    [record] = caplog.records
    assert reply.headers["x-request-id"] in record.getMessage()
    assert bench.call("GET", "/healthz").status == 200


def test_a_bug_in_the_middle_of_a_stream_is_its_last_event(
    new_bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    reply = new_bench(script=[words("Par")[0], ZeroDivisionError("secret")]).chat(stream=True)
    assert reply.events()[-1]["error"]["code"] == "internal_error"
    assert len(caplog.records) == 1


def test_what_is_in_no_table_is_our_own_fault() -> None:
    assert http_error_of(KeyError("x")) is None


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/nope", 404), ("GET", "/v1/completions", 405)]
)
def test_an_unknown_url_is_answered_in_the_same_shape(
    bench: Bench, method: str, path: str, status: int
) -> None:
    reply = bench.call(method, path)
    assert reply.status == status
    assert reply.json()["error"]["code"] == "unknown_url"
    assert path in reply.json()["error"]["message"]


def test_error_bodies_have_all_of_openais_fields(bench: Bench) -> None:
    error: dict[str, Any] = bench.call("GET", "/nope").json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
