"""`localai-node chat`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import click

from node.config import api_key_option, home_option
from node.control import ask
from node.errors import NodeError
from node.home import Home
from node.openai_stream import text_of_event

_SILENCE_MAX = 300.0
"""Seconds between two pieces of an answer: a cold model on a slow machine, and no more."""


@click.command(epilog='Example: localai-node chat smollm2-135m-instruct "What is the capital of France?"')
@click.argument("model", required=False)
@click.argument("question", required=False)
@api_key_option
@home_option
def chat(*, home: Home, model: str | None, question: str | None, api_key: Sequence[str]) -> None:
    """Talk to the swarm through the node running in this home.

    Without QUESTION it reads one per line until end of input, and remembers the conversation.
    """
    api = str(ask(home, "info")["api"])
    headers = {"authorization": f"Bearer {api_key[0]}"} if api_key else {}
    model = model or _only_model(home)
    messages: list[dict[str, str]] = []
    if question is not None:
        _answer(api, headers, model, [{"role": "user", "content": question}])
        return
    interactive = sys.stdin.isatty()
    if interactive:
        click.echo(f"{model} at {api}; end with Ctrl-D", err=True)
    while line := _read_line(interactive=interactive):
        messages.append({"role": "user", "content": line})
        messages.append({"role": "assistant", "content": _answer(api, headers, model, messages)})


def _only_model(home: Home) -> str:
    """The model to talk to when none is named: the one there is.

    Raises:
      NodeError: there is none, or a choice.
    """
    swarm = ask(home, "status")
    online = [node for node in swarm["nodes"] if node["state"] == "online"]
    names = sorted(
        {model["name"] for node in online for model in node["models"] if model["state"] != "failed"}
    )
    if len(names) == 1:
        return str(names[0])
    if not names:
        raise NodeError("the swarm serves no model; add one with `localai-node models add FILE`")
    raise NodeError(f"name a model: the swarm serves {', '.join(names)}")


def _read_line(*, interactive: bool) -> str:
    """The next line that is not blank, or "" at the end of input."""
    while True:
        try:
            line = input("> " if interactive else "").strip()
        except EOFError:
            return ""
        if line:
            return line


def _answer(api: str, headers: dict[str, str], model: str, messages: list[dict[str, str]]) -> str:
    """Print the answer as it comes, and return it."""
    import httpx

    request = {"model": model, "messages": messages, "stream": True}
    pieces: list[str] = []
    try:
        with httpx.stream(
            "POST", f"{api}/v1/chat/completions", json=request, headers=headers, timeout=_SILENCE_MAX
        ) as answer:
            if answer.status_code != httpx.codes.OK:
                raise NodeError(_reason(answer.read(), answer.status_code))
            for line in answer.iter_lines():
                piece = text_of_event(line)
                pieces.append(piece)
                click.echo(piece, nl=False)
    except httpx.HTTPError as error:
        raise NodeError(f"the node at {api} broke off: {error}") from error
    click.echo()
    return "".join(pieces)


def _reason(body: bytes, status: int) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the node answered with status {status}"
