"""The nodes of a demo, as processes of this machine.

    async with demo_nodes(folder) as nodes:
        alpha = await nodes.start("alpha", "start", "--api", "127.0.0.1:0")

A process has an owner from the moment it exists, ready or not, and leaving the context
ends it. Each also holds the read end of a pipe from here (`--exit-with-stdin`), so none
outlives this process, however that ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from node.child_environment import child_environment
from node.config import TOKEN_VARIABLE
from node.errors import NodeError

_STOP_TIMEOUT = 10.0
"""Seconds a node gets to say away before it is killed; it has nothing to drain here."""
_PROGRAM = (sys.executable, "-m", "node")


@dataclass(slots=True)
class DemoNode:
    """One process of a demo."""

    name: str
    home: Path
    process: trio.Process
    api: str = ""
    """`http://127.0.0.1:<port>`, once it is ready."""

    async def token(self) -> str:
        """The join token of the swarm that it founded.

        Raises:
          NodeError: it shows none; with the reason.
        """
        shown = await trio.run_process(
            [*_PROGRAM, "token", "show", "--home", str(self.home)],
            env=child_environment(),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        if shown.returncode:
            reason = shown.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise NodeError(f"node {self.name} shows no token: {reason}")
        return str(shown.stdout.decode().split()[-1])


@asynccontextmanager
async def demo_nodes(folder: Path) -> AsyncIterator[DemoNodes]:
    """Nodes with homes in `folder`. Left, or cancelled: every one has ended, within `_STOP_TIMEOUT`."""
    async with trio.open_nursery() as readers:
        nodes = DemoNodes(folder, readers)
        try:
            yield nodes
        finally:
            with trio.CancelScope(shield=True):
                await nodes.end()
            readers.cancel_scope.cancel()


class DemoNodes:
    """Every node that was started, for `demo_nodes` to end."""

    def __init__(self, folder: Path, readers: trio.Nursery) -> None:
        self._folder = folder
        self._readers = readers
        self._nodes: list[DemoNode] = []

    async def start(self, name: str, *arguments: str, token: str | None = None) -> DemoNode:
        """A node of that name, once it says that it is ready.

        Raises:
          NodeError: it ended instead; with the last thing it said.
        """
        home = self._folder / name
        # The token travels in the environment: command lines are there for everybody to read.
        environment = child_environment() | ({} if token is None else {TOKEN_VARIABLE: token})
        process = await trio.lowlevel.open_process(
            [
                *(*_PROGRAM, *arguments, "--home", str(home), "--name", name),
                *("--log-format", "json", "--exit-with-stdin"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
        )
        node = DemoNode(name, home, process)
        self._nodes.append(node)
        assert process.stderr is not None
        lines = _Lines(process.stderr)
        node.api = (await _ready_event(lines, name))["api"]
        self._readers.start_soon(lines.discard)
        return node

    async def end(self) -> None:
        """End every node that still runs: politely, then not."""
        for node in self._nodes:
            assert node.process.stdin is not None
            await node.process.stdin.aclose()
        with trio.move_on_after(_STOP_TIMEOUT):
            for node in self._nodes:
                await node.process.wait()
        for node in self._nodes:
            node.process.kill()
            await node.process.wait()


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


async def _ready_event(lines: _Lines, name: str) -> dict[str, Any]:
    """The ready event of a node that starts.

    Raises:
      NodeError: it ended instead.
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
