"""The demo: a swarm of three real nodes on this machine, each with the bundled model.

    alpha   founds the swarm and prints a token      the endpoint
    beta    joins with it
    gamma   joins with it                            killed by `--once`

They are processes like any other node's, with homes of their own in one temporary
folder. Each holds the read end of a pipe from here (`--exit-with-stdin`), so none
outlives the demo, however that ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import trio

from node.errors import NodeError
from node.models.demo_model import DEMO_MODEL_NAME
from node.openai_stream import text_of_event
from node.status_table import render_status

Write: TypeAlias = Callable[[str], None]
"""Shows a piece of text at once, as it is."""

_READY_TIMEOUT = 60.0
"""Seconds for three nodes to start and load 98 MB each: about five on a warm laptop, more on a slow disk."""
_ANSWER_TIMEOUT = 120.0
"""Seconds for one short answer on the slowest machine we would call a node."""
_STOP_TIMEOUT = 10.0
"""Seconds a node gets to say away before it is killed; it has nothing to drain here."""
_LOOK_INTERVAL = 0.1
"""Seconds between two looks at a node that has no event for us to wait on."""
_QUESTIONS = ("What is the capital of France?", "Name three colours.")


@dataclass(frozen=True, slots=True)
class DemoNode:
    """One process of the demo, ready."""

    name: str
    home: Path
    process: trio.Process
    api: str
    """`http://127.0.0.1:<port>`"""


async def run_demo(write: Write, *, once: bool) -> None:
    """Run the swarm until cancelled, or with `once` through one death and out again.

    Raises:
      NodeError: a node did not come up, or with `once` an answer failed.
    """
    with tempfile.TemporaryDirectory(prefix="localai-node-demo-") as folder:
        async with _three_nodes(Path(folder), write) as nodes:
            await _wait_until_complete(nodes)
            _say_endpoint(nodes[0], write)
            if once:
                await _show_a_death(nodes, write)
            else:
                await trio.sleep_forever()


@asynccontextmanager
async def _three_nodes(folder: Path, write: Write) -> AsyncIterator[list[DemoNode]]:
    async with trio.open_nursery() as nursery:
        nodes: list[DemoNode] = []
        try:
            with trio.fail_after(_READY_TIMEOUT):
                write("starting three nodes on this machine ...\n")
                nodes.append(await _start(nursery, folder, "alpha", ["start"]))
                token = await _token_of(nodes[0])
                nodes.append(await _start(nursery, folder, "beta", ["join"], token=token))
                nodes.append(await _start(nursery, folder, "gamma", ["join"], token=token))
            yield nodes
        except trio.TooSlowError as error:
            raise NodeError(f"the demo's nodes were not ready within {_READY_TIMEOUT:g} s") from error
        finally:
            with trio.CancelScope(shield=True):
                await _stop(nodes)
        nursery.cancel_scope.cancel()


async def _start(
    nursery: trio.Nursery, folder: Path, name: str, command: list[str], *, token: str | None = None
) -> DemoNode:
    """One node as a process of its own, once it says that it is ready."""
    home = folder / name
    arguments = [
        *command,
        *("--home", str(home), "--name", name, "--model", "demo", "--no-mdns"),
        # Loopback only: the demo is nobody else's business. The endpoint is the usual one if that is free.
        *("--listen", "/ip4/127.0.0.1/tcp/0", "--api", "127.0.0.1:0"),
        *("--log-format", "json", "--exit-with-stdin"),
    ]
    # The token travels in the environment: command lines are there for everybody to read.
    environment = os.environ if token is None else {**os.environ, "LOCALAI_NODE_TOKEN": token}
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "node", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stderr is not None
    lines = _Lines(process.stderr)
    ready = await _wait_until_ready(lines, name)
    nursery.start_soon(lines.discard)
    return DemoNode(name, home, process, ready["api"])


class _Lines:
    """What a process says, line by line."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._unread = bytearray()

    async def next(self) -> str | None:
        """The next line, or None when the process has ended."""
        while (end := self._unread.find(b"\n")) < 0:
            data = await self._stream.receive_some()
            if not data:
                return None
            self._unread += data
        line = self._unread[:end].decode(errors="replace")
        del self._unread[: end + 1]
        return line

    async def discard(self) -> None:
        """Read on to the end, so that the process never waits for us."""
        while await self.next() is not None:
            pass


async def _wait_until_ready(lines: _Lines, name: str) -> dict[str, Any]:
    """The ready event of a node that starts.

    Raises:
      NodeError: it ended instead; with the last thing it said.
    """
    last = "nothing"
    while (line := await lines.next()) is not None:
        event = _parse_event(line)
        if event["event"] == "ready":
            return event
        last = event["event"]
    raise NodeError(f"node {name} ended before it was ready; the last it said was: {last}")


def _parse_event(line: str) -> dict[str, Any]:
    """A line of a log in JSON; a line of anything else as the event it may be."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    return event if isinstance(event, dict) and "event" in event else {"event": line}


async def _token_of(node: DemoNode) -> str:
    """The join token of the swarm that `node` founded."""
    shown = await trio.run_process(
        [sys.executable, "-m", "node", "token", "show", "--home", str(node.home)], capture_stdout=True
    )
    return str(shown.stdout.decode().split()[-1])


async def _stop(nodes: list[DemoNode]) -> None:
    """End every node that still runs: politely, then not."""
    for node in nodes:
        assert node.process.stdin is not None
        await node.process.stdin.aclose()
    with trio.move_on_after(_STOP_TIMEOUT):
        for node in nodes:
            await node.process.wait()
    for node in nodes:
        node.process.kill()
        await node.process.wait()


async def _swarm(node: DemoNode) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=node.api) as client:
        status: dict[str, Any] = (await client.get("/api/swarm")).raise_for_status().json()
        return status


async def _wait_until_complete(nodes: list[DemoNode]) -> None:
    """Return when the first node sees all three online, each with the model loaded."""
    with trio.move_on_after(_READY_TIMEOUT):
        while True:
            status = await _swarm(nodes[0])
            serving = [
                node
                for node in status["nodes"]
                if node["state"] == "online" and any(model["state"] == "loaded" for model in node["models"])
            ]
            if len(serving) == len(nodes):
                return
            await trio.sleep(_LOOK_INTERVAL)
    raise NodeError("the three nodes did not all load the model:\n" + render_status(await _swarm(nodes[0])))


def _say_endpoint(node: DemoNode, write: Write) -> None:
    body = json.dumps({"model": DEMO_MODEL_NAME, "messages": [{"role": "user", "content": _QUESTIONS[0]}]})
    write(f"three nodes, one endpoint: {node.api}/v1\n")
    write(f"\n  curl {node.api}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'\n")
    write(f"  {node.api}/docs shows the rest; Ctrl-C ends the swarm\n\n")


async def _show_a_death(nodes: list[DemoNode], write: Write) -> None:
    """An answer, a death, another answer, and what the swarm looks like then."""
    await _show_answer(nodes[0], _QUESTIONS[0], write)
    victim = nodes[-1]
    write(f"killing {victim.name} with SIGKILL ...\n")
    victim.process.kill()
    await _show_answer(nodes[0], _QUESTIONS[1], write)
    await _wait_until_gone(nodes[0], victim, write)


async def _show_answer(node: DemoNode, question: str, write: Write) -> None:
    request = {
        "model": DEMO_MODEL_NAME,
        "messages": [{"role": "user", "content": question}],
        "stream": True,
        "max_tokens": 48,
        "temperature": 0,
    }
    write(f"> {question}\n")
    text = ""
    async with (
        httpx.AsyncClient(base_url=node.api, timeout=_ANSWER_TIMEOUT) as client,
        client.stream("POST", "/v1/chat/completions", json=request) as answer,
    ):
        if answer.status_code != httpx.codes.OK:
            raise NodeError(f"the swarm answered {answer.status_code}: {(await answer.aread()).decode()}")
        peer = answer.headers["x-localai-peer"]
        async for line in answer.aiter_lines():
            piece = text_of_event(line)
            write(piece)
            text += piece
    if not text.strip():
        raise NodeError("the answer was empty")
    write(f"\n  (answered by {peer})\n\n")


async def _wait_until_gone(node: DemoNode, victim: DemoNode, write: Write) -> None:
    """Show the swarm once it no longer calls the dead node online."""
    with trio.move_on_after(_READY_TIMEOUT):
        while True:
            status = await _swarm(node)
            states = {row["name"]: row["state"] for row in status["nodes"]}
            if states.get(victim.name) != "online":
                write(render_status(status) + "\n")
                return
            await trio.sleep(_LOOK_INTERVAL)
    raise NodeError(f"{victim.name} is dead and still shown as online")
