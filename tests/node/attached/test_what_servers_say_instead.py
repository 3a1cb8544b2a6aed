"""Errors in the shapes that servers send, as errors of the federation."""

from __future__ import annotations

import json
from typing import Any

import pytest

from federation.errors import BadRequest, ContextTooLong, Failed, FederationError, Refused
from ledger.records import Load
from node.attached.error_answer import MESSAGE_LENGTH_MAX, error_in_stream, error_of
from tests.node.attached.requests import asking

LOAD = Load(1, 1)


def error(status: int, body: Any, **fields: Any) -> FederationError:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_of(status, text, asking(**fields), "Ollama at http://x", LOAD)


def openai(message: str, type_: str = "invalid_request_error", **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": type_, "param": None, "code": None, **more}}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        # llama-server
        (
            400,
            openai("the request exceeds the available context size", "exceed_context_size_error", code=400),
        ),
        # vLLM
        (400, openai("This model's maximum context length is 2048 tokens. However, you requested 3000")),
        # llama_cpp.server
        (400, openai("Requested tokens exceed ...", code="context_length_exceeded", param="messages")),
        # Ollama, of embeddings
        (400, {"error": "the input length exceeds the context length"}),
        # Old llama-servers had 500 for it.
        (500, openai("the request exceeds the available context size", "server_error")),
    ],
)
def test_a_prompt_that_does_not_fit_is_called_so(status: int, body: Any) -> None:
    assert isinstance(error(status, body), ContextTooLong)


def test_what_a_server_finds_wrong_is_told_in_its_words() -> None:
    found = error(400, openai("top_p must be in (0, 1]", param="top_p"))
    assert type(found) is BadRequest
    assert (str(found), found.param) == ("Ollama at http://x: top_p must be in (0, 1]", "top_p")
    # FastAPI's form, as vLLM has it for what is of the wrong type.
    found = error(422, {"detail": [{"loc": ["body", "n"], "msg": "not a number"}, {"msg": "nor this"}]})
    assert str(found).endswith("not a number; nor this")


@pytest.mark.parametrize("status", [401, 403])
def test_who_wants_a_key_says_how_to_give_it(status: int) -> None:
    found = error(status, openai("Invalid API Key", "authentication_error"))
    assert isinstance(found, Refused)
    assert found.reason == "model_failed"
    assert "--backend-key" in str(found)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (404, openai("model 'tiny' not found", "not_found_error"), "no_such_model"),
        (404, {"error": {"message": "The model `tiny` does not exist.", "code": 404}}, "no_such_model"),
        (400, openai("no", code="model_not_found"), "no_such_model"),
        (429, openai("slow down", "rate_limit_error"), "busy"),
        (503, openai("server busy, please try again. maximum pending requests exceeded"), "busy"),
        (503, openai("Loading model", "unavailable_error", code=503), "loading"),
        (307, b"", "model_failed"),
    ],
)
def test_what_another_peer_might_serve_is_refused(status: int, body: Any, reason: str) -> None:
    found = error(status, body)
    assert isinstance(found, Refused)
    assert found.reason == reason
    assert found.load == (LOAD if reason in ("busy", "loading", "no_such_model") else None)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"detail": "Not Found"}),
        (405, {"detail": "Method Not Allowed"}),
        (501, openai("This server does not support embeddings. Start it with `--embeddings`")),
    ],
)
def test_what_a_server_cannot_do_is_a_bad_request(status: int, body: Any) -> None:
    found = error(status, body, kind="embeddings", inputs=("a",))
    assert type(found) is BadRequest
    assert "cannot do embeddings" in str(found)


@pytest.mark.parametrize("status", [500, 502, 504, 418, 204])
def test_everything_else_is_the_servers_failure(status: int) -> None:
    found = error(status, b"<html>Bad Gateway</html>")
    assert type(found) is Failed
    assert str(found) == f"Ollama at http://x answered with status {status}"


def test_an_error_that_comes_as_the_first_event_means_the_same() -> None:
    request = asking()
    said = error_in_stream({"code": 400, "message": "bad", "type": "invalid_request_error"}, request, "x")
    assert type(said) is BadRequest
    assert type(error_in_stream("out of memory", request, "x")) is Failed
    assert type(error_in_stream({"message": "exceeds context length"}, request, "x")) is ContextTooLong


def test_words_are_cut_and_stay_in_one_line() -> None:
    found = error(400, openai("bad\n\x1b[31m" + "x" * 10_000))
    assert len(str(found)) < MESSAGE_LENGTH_MAX + 50
    assert str(found).isprintable()


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[]", b"[" * 99_999, b'{"error":{"error":{"error":1}}}'])
def test_a_body_that_says_nothing_is_no_reason_to_fall_over(body: bytes) -> None:
    assert type(error(500, body)) is Failed
