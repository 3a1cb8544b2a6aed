"""`localai-node chat`."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing

import click

from node.config import API_KEY_VARIABLE, api_key_option, home_option
from node.control import ask
from node.errors import NodeError, WrongUse
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

    Without QUESTION it reads one per line until end of input, and remembers the conversation. On a
    terminal Ctrl-C stops the answer that is coming, and the conversation goes on.
    """
    api = str(ask(home, "info")["api"])
    headers = {"authorization": f"Bearer {api_key[0]}"} if api_key else {}
    if model is None or question is None:
        model = _choose_model(home, model)
    conversation = _Conversation(api, headers, model)
    if question is not None:
        conversation.ask(question)
    elif sys.stdin.isatty():
        click.echo(f"{model} at {api}; end with Ctrl-D", err=True)
        _talk_to_a_person(conversation)
    else:
        while line := _read_line():
            conversation.ask(line)


def _choose_model(home: Home, name: str | None) -> str:
    """The model called `name`, or if none is named, the one there is.

    Raises:
      NodeError: there is none, or a choice.
      WrongUse: there are others; `name` may have been meant as a question.
    """
    swarm = ask(home, "status")
    online = [node for node in swarm["nodes"] if node["state"] == "online"]
    names = sorted(
        {model["name"] for node in online for model in node["models"] if model["state"] != "failed"}
    )
    if not names:
        raise NodeError("the swarm serves no model; add one with `localai-node models add FILE`")
    if name is None and len(names) > 1:
        raise NodeError(f"name a model: the swarm serves {', '.join(names)}")
    if name is not None and name.partition("@")[0] not in names:
        raise WrongUse(
            f"the swarm serves {', '.join(names)}, and no model {name!r}; "
            f'to ask one question: localai-node chat {names[0]} "..."'
        )
    return name or str(names[0])


def _talk_to_a_person(conversation: _Conversation) -> None:
    while line := _read_line("> "):
        try:
            conversation.ask(line)
        except KeyboardInterrupt:
            click.echo("(stopped)", err=True)
        except NodeError as error:
            click.echo(f"localai-node: {error}", err=True)


def _read_line(prompt: str = "") -> str:
    """The next line that is not blank, or "" at the end of input."""
    while True:
        try:
            line = input(prompt).strip()
        except EOFError:
            return ""
        if line:
            return line


class _Conversation:
    """What was said so far, and the node that goes on from there."""

    def __init__(self, api: str, headers: Mapping[str, str], model: str) -> None:
        self._api = api
        self._headers = headers
        self._model = model
        self._messages: list[dict[str, str]] = []

    def ask(self, question: str) -> None:
        """Print the answer as it comes.

        One that breaks off is remembered as far as it came; a question without any answer is not.
        """
        self._messages.append({"role": "user", "content": question})
        answer = ""
        try:
            with closing(self._answer()) as pieces:
                for piece in pieces:
                    click.echo(piece, nl=False)
                    answer += piece
        finally:
            if answer:
                click.echo()
                self._messages.append({"role": "assistant", "content": answer})
            else:
                self._messages.pop()

    def _answer(self) -> Generator[str, None, None]:
        import httpx

        request = {"model": self._model, "messages": self._messages, "stream": True}
        url = f"{self._api}/v1/chat/completions"
        try:
            with httpx.stream(
                "POST", url, json=request, headers=self._headers, timeout=_SILENCE_MAX
            ) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise NodeError(_reason(answer.read(), answer.status_code))
                yield from map(text_of_event, answer.iter_lines())
        except httpx.HTTPError as error:
            raise NodeError(f"the node at {self._api} broke off: {error}") from error


def _reason(body: bytes, status: int) -> str:
    try:
        reason = str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        reason = f"the node answered with status {status}"
    return f"{reason}; give --api-key KEY, or set {API_KEY_VARIABLE}" if status == 401 else reason
