"""`chat` prints the answer as it comes, remembers what was said, and says why there is none."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from node.cli import main
from node.errors import NodeError
from node.openai_stream import text_of_event


def chunk(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


@dataclass
class Node:
    """A node as `chat` sees it: its control socket, and its API on a real port."""

    body: bytes = chunk("Par") + chunk("is.") + b"data: [DONE]\n\n"
    status: int = 200
    models: list[dict[str, str]] = field(default_factory=lambda: [{"name": "tiny", "state": "loaded"}])
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    api: str = ""

    def ask(self, _home: object, command: str) -> dict[str, Any]:
        if command == "info":
            return {"api": self.api}
        return {"nodes": [{"state": "online", "models": self.models}]}


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Node]:
    node = Node()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            node.requests.append(json.loads(self.rfile.read(length)))
            node.keys.append(self.headers.get("authorization"))
            self.send_response(node.status)
            self.end_headers()
            self.wfile.write(node.body)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("LOCALAI_NODE_HOME", str(tmp_path))
    monkeypatch.setattr("node.commands.chat.ask", node.ask)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        node.api = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield node
        server.shutdown()
        thread.join()


def test_a_question_is_answered_by_the_only_model(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "tiny", "Capital of France?"]) == 0
    assert capsys.readouterr().out == "Paris.\n"
    [request] = node.requests
    assert request["model"] == "tiny"
    assert request["messages"] == [{"role": "user", "content": "Capital of France?"}]


def test_a_conversation_is_remembered(
    node: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Capital of France?\n\nAnd why?\n"))
    assert main(["chat"]) == 0
    assert capsys.readouterr().out == "Paris.\nParis.\n"
    assert [message["content"] for message in node.requests[1]["messages"]] == [
        "Capital of France?",
        "Paris.",
        "And why?",
    ]


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ([], "serves no model"),
        ([{"name": "broken", "state": "failed"}], "serves no model"),
        ([{"name": "b", "state": "loaded"}, {"name": "a", "state": "cold"}], "serves a, b"),
    ],
)
def test_without_a_name_there_must_be_one_model(
    node: Node, capsys: pytest.CaptureFixture[str], models: list[dict[str, str]], words: str
) -> None:
    node.models = models
    assert main(["chat"]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (404, b'{"error": {"message": "nobody serves tiny"}}', "nobody serves tiny"),
        (500, b"oops", "status 500"),
        (200, chunk("Par") + b'data: {"error": {"message": "the peer died"}}\n\n', "the peer died"),
    ],
)
def test_an_answer_that_fails_says_why(
    node: Node, capsys: pytest.CaptureFixture[str], status: int, body: bytes, words: str
) -> None:
    node.status, node.body = status, body
    assert main(["chat", "tiny", "Hello?"]) == 1
    assert words in capsys.readouterr().err


def test_a_question_in_the_place_of_a_model_is_told_from_one(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chat", "What is the capital of France?"]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert "serves tiny" in told.err
    assert 'localai-node chat tiny "..."' in told.err
    assert node.requests == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_person_who_stops_an_answer_keeps_the_conversation(
    node: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(line: str) -> str:
        text = text_of_event(line)
        if text == "is.":
            raise KeyboardInterrupt
        return text

    monkeypatch.setattr("node.commands.chat.text_of_event", read)
    monkeypatch.setattr(sys, "stdin", Terminal("Capital of France?\nAnd why?\n"))
    assert main(["chat"]) == 0
    assert capsys.readouterr().err.count("(stopped)") == 2
    assert [message["content"] for message in node.requests[1]["messages"]] == [
        "Capital of France?",
        "Par",
        "And why?",
    ]


def test_a_person_whose_question_failed_may_ask_another(
    node: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    node.status, node.body = 503, b'{"error": {"message": "tiny is loading"}}'
    monkeypatch.setattr(sys, "stdin", Terminal("Capital of France?\nAnd now?\n"))
    assert main(["chat", "tiny"]) == 0
    assert capsys.readouterr().err.count("tiny is loading") == 2
    assert [message["content"] for message in node.requests[1]["messages"]] == ["And now?"]


def test_a_script_whose_question_failed_fails(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.status = 503
    monkeypatch.setattr(sys, "stdin", io.StringIO("Capital of France?\nAnd now?\n"))
    assert main(["chat"]) == 1
    assert len(node.requests) == 1


def test_a_key_that_is_missing_is_asked_for_by_its_flag(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    node.status, node.body = 401, b'{"error": {"message": "this node wants an API key"}}'
    assert main(["chat", "tiny", "Hello?"]) == 1
    assert "wants an API key; give --api-key KEY, or set LOCALAI_NODE_API_KEY" in capsys.readouterr().err


def test_a_key_of_the_homes_own_settings_is_shown(node: Node, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('api_key = ["one", "two"]\n')
    main(["chat", "tiny", "Hello?"])
    main(["chat", "tiny", "Hello?", "--api-key", "three"])
    assert node.keys == ["Bearer one", "Bearer three"]


def test_lines_without_text_are_none() -> None:
    for line in (
        "",
        ": waiting",
        "data: [DONE]",
        'data: {"choices": []}',
        'data: {"choices": [{"delta": {}}]}',
    ):
        assert text_of_event(line) == ""


def test_an_error_in_the_middle_is_raised() -> None:
    with pytest.raises(NodeError, match="the answer broke off: the peer died"):
        text_of_event('data: {"error": {"message": "the peer died"}}')
