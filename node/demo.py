"""The demo: a swarm of three real nodes on this machine, each with the bundled model.

    alpha   founds the swarm and prints a token      the endpoint
    beta    joins with it
    gamma   joins with it                            killed by `--once`

They are processes like any other node's (`demo_nodes.py`), with homes of their own in
one temporary folder. That holds their keys, so it goes whenever the demo can still do
something about it: at its end, at Ctrl-C, when it is told to stop.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import trio

from node.config import API_DEFAULT
from node.demo_nodes import DemoNode, DemoNodes, demo_nodes
from node.errors import NodeError
from node.flag_types import HostPort
from node.models.demo_model import DEMO_MODEL_NAME
from node.openai_stream import text_of_event
from node.status_table import render_status
from node.stop_signals import STOP_SIGNALS

Write: TypeAlias = Callable[[str], None]
"""Shows a piece of text at once, as it is."""

_READY_TIMEOUT = 60.0
"""Seconds for three nodes to start and load 98 MB each: about five on a warm laptop, more on a slow disk."""
_ANSWER_TIMEOUT = 120.0
"""Seconds for one short answer on the slowest machine we would call a node."""
_STATUS_TIMEOUT = 10.0
"""Seconds for an answer from memory, where three engines that load leave the node no time for it."""
_LOOK_INTERVAL = 0.1
"""Seconds between two looks at a node that has no event for us to wait on."""
_PEER_HEADER = "x-localai-peer"
_PEER_COMMENT = f": {_PEER_HEADER}: "
_QUESTIONS = ("What is the capital of France?", "Name three colours.")


async def run_demo(write: Write, *, once: bool) -> None:
    """Run the swarm until told to stop, or with `once` through one death and out again.

    However it ends, no process and no file of it is left.

    Raises:
      NodeError: a node did not come up or went away, or with `once` an answer failed.
      KeyboardInterrupt: it was told to stop, by Ctrl-C or any other way.
    """
    async with trio.open_nursery() as nursery:
        running = trio.CancelScope()
        await nursery.start(_cancel_when_interrupted, running)
        with running, tempfile.TemporaryDirectory(prefix="localai-node-demo-") as folder:
            async with demo_nodes(Path(folder)) as nodes:
                write("starting three nodes on this machine ...\n")
                three = await _start_three(nodes)
                _say_endpoint(three, write)
                if once:
                    await _show_a_death(three, write)
                else:
                    await _watch(three, write)
        nursery.cancel_scope.cancel()
    if running.cancelled_caught:
        raise KeyboardInterrupt


async def _cancel_when_interrupted(
    running: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Make of every way to stop a program one that lets us clean up, also if it comes twice."""
    with trio.open_signal_receiver(*STOP_SIGNALS) as signals:
        task_status.started()
        async for _ in signals:
            running.cancel()


async def _start_three(nodes: DemoNodes) -> list[DemoNode]:
    """Three nodes of one swarm, once the first sees all of them with the model loaded."""
    # Loopback only: the demo is nobody else's business.
    flags = ("--model", "demo", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0")
    any_port = ("--api", "127.0.0.1:0")
    started: list[DemoNode] = []
    with trio.move_on_after(_READY_TIMEOUT):
        alpha = await nodes.start("alpha", "start", *flags, "--api", await _endpoint())
        token = await alpha.token()
        started = [
            alpha,
            await nodes.start("beta", "join", *flags, *any_port, token=token),
            await nodes.start("gamma", "join", *flags, *any_port, token=token),
        ]
        await _wait_until(_is_complete, alpha)
        return started
    seen = f":\n{render_status(await _swarm(started[0]))}" if started else ""
    raise NodeError(f"the demo's nodes were not ready within {_READY_TIMEOUT:g} s{seen}")


async def _endpoint() -> str:
    """Where the first node shall answer: the usual address, or any port if another program has that one."""
    usual = HostPort.parse(API_DEFAULT)
    try:
        listeners = await trio.open_tcp_listeners(usual.port, host=usual.host)
    except OSError:
        return f"{usual.host}:0"
    for listener in listeners:
        await listener.aclose()
    return API_DEFAULT


def _is_complete(status: dict[str, Any]) -> bool:
    """Whether all three nodes are online with a model that is loaded."""
    serving = [
        node
        for node in status["nodes"]
        if node["state"] == "online" and any(model["state"] == "loaded" for model in node["models"])
    ]
    return len(serving) == 3


def _say_endpoint(nodes: Sequence[DemoNode], write: Write) -> None:
    api = nodes[0].api
    write(f"three nodes, one endpoint: {api}/v1\n")
    write(f"\n  {_curl(api)}\n")
    write(f"  {api}/docs shows the rest; Ctrl-C ends the swarm\n\n")
    write("kill one and ask again; `localai-node status --home HOME` shows what is left\n")
    for node in nodes:
        write(f"  {node.name:<6} process {node.process.pid:<7} home {node.home}\n")
    write("\n")


def _curl(api: str) -> str:
    """What to paste into a shell to ask the node at `api`."""
    body = json.dumps(_asking(_QUESTIONS[0]))
    return f"curl {api}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'"


def _asking(question: str) -> dict[str, Any]:
    # Always the likeliest token: by chance, a model this small now and then answers nonsense.
    return {
        "model": DEMO_MODEL_NAME,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
    }


async def _watch(nodes: Sequence[DemoNode], write: Write) -> None:
    """Say who ends, as long as there is somebody left.

    Raises:
      NodeError: there is not.
    """
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(_tell_its_end, node, nodes, write)
    raise NodeError("every node of the demo has ended")


async def _tell_its_end(node: DemoNode, nodes: Sequence[DemoNode], write: Write) -> None:
    await node.process.wait()
    left = [other for other in nodes if other.process.returncode is None]
    if left:
        write(f"{node.name} has ended; the swarm goes on, for example at {left[0].api}/v1\n")


async def _show_a_death(nodes: Sequence[DemoNode], write: Write) -> None:
    """An answer, a death, another answer, and what the swarm looks like then."""
    await _show_answer(nodes[0], _QUESTIONS[0], write)
    victim = nodes[-1]
    write(f"killing {victim.name} with SIGKILL ...\n")
    victim.process.kill()
    await _show_answer(nodes[0], _QUESTIONS[1], write)
    await _show_who_is_left(nodes[0], victim, write)


async def _show_answer(node: DemoNode, question: str, write: Write) -> None:
    request = {**_asking(question), "stream": True, "max_tokens": 48}
    write(f"> {question}\n")
    text = ""
    async with (
        _client_of(node, timeout=_ANSWER_TIMEOUT) as client,
        client.stream("POST", "/v1/chat/completions", json=request) as answer,
    ):
        if answer.status_code != httpx.codes.OK:
            raise NodeError(f"the swarm answered {answer.status_code}: {(await answer.aread()).decode()}")
        peer = answer.headers.get(_PEER_HEADER, "")
        async for line in answer.aiter_lines():
            # Where nobody answered for long, the head went out before it was known who does.
            peer = line.removeprefix(_PEER_COMMENT) if line.startswith(_PEER_COMMENT) else peer
            piece = text_of_event(line)
            write(piece)
            text += piece
    if not text.strip():
        raise NodeError("the answer was empty")
    names = {row["id"]: row["name"] for row in (await _swarm(node))["nodes"]}
    write(f"\n  (answered by {names.get(peer, peer)})\n\n")


async def _show_who_is_left(node: DemoNode, victim: DemoNode, write: Write) -> None:
    """The swarm once `node` no longer calls the dead one online."""

    def is_gone(status: dict[str, Any]) -> bool:
        return any(row["name"] == victim.name and row["state"] != "online" for row in status["nodes"])

    with trio.move_on_after(_READY_TIMEOUT):
        write(render_status(await _wait_until(is_gone, node)) + "\n")
        return
    raise NodeError(f"{victim.name} is dead and still shown as online")


async def _wait_until(condition: Callable[[dict[str, Any]], bool], node: DemoNode) -> dict[str, Any]:
    """The swarm as `node` sees it, once `condition` holds of it."""
    while True:
        status = await _swarm(node)
        if condition(status):
            return status
        await trio.sleep(_LOOK_INTERVAL)


async def _swarm(node: DemoNode) -> dict[str, Any]:
    async with _client_of(node, timeout=_STATUS_TIMEOUT) as client:
        status: dict[str, Any] = (await client.get("/api/swarm")).raise_for_status().json()
        return status


@asynccontextmanager
async def _client_of(node: DemoNode, *, timeout: float) -> AsyncIterator[httpx.AsyncClient]:
    """HTTP to `node`; what goes wrong with it is a `NodeError`."""
    try:
        async with httpx.AsyncClient(base_url=node.api, timeout=timeout) as client:
            yield client
    except httpx.HTTPError as error:
        raise NodeError(f"node {node.name} did not answer: {str(error) or type(error).__name__}") from error
