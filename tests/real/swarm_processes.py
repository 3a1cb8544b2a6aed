"""Real nodes as processes of this machine, for what only sockets, signals and sudden deaths can show.

    with NodeProcesses(folder) as nodes:
        alpha = nodes.run("start", "alpha", "--model", "demo")
        beta = nodes.run("join", "beta", token=alpha.token())
        alpha.wait_until(lambda rows: is_online(rows, "beta"))

Each has a home of its own in the folder, which the next node of that name comes back to.
They listen on loopback only, unless told otherwise, and hold the read end of a pipe from here
(`--exit-with-stdin`), so none outlives the test, however that ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeAlias

import httpx
import psutil

Rows: TypeAlias = Mapping[str, Mapping[str, Any]]
"""The rows of `/api/swarm`, by the name of the node."""

Program: TypeAlias = tuple[str, ...]
"""What is run with a node's arguments."""

THE_PROGRAM: Program = (sys.executable, "-m", "node")
READY_TIMEOUT = 60.0
"""Seconds for a node to come up. About two on a quiet machine; this only ends what hangs."""
CHANGE_TIMEOUT = 30.0
"""Seconds for the swarm to notice something, unless a test claims less."""
STOP_TIMEOUT = 30.0
"""Seconds for a node to say away. It has twenty for answers that still run."""
LOOPBACK_ONLY = ("--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0")
"""Flags: tests must not be heard outside of this machine."""
LOOK_INTERVAL = 0.02
"""Seconds between two looks at a view, which sends no events yet."""
LOG_LINES_SHOWN = 20
"""Of a node's log, in the message of a failed test."""


class NodeProcess:
    """One running node."""

    def __init__(
        self,
        program: Program,
        command: str,
        name: str,
        home: Path,
        flags: tuple[str, ...],
        *,
        token: str | None,
    ) -> None:
        self.name = name
        self.home = home
        self.api = ""
        """`http://127.0.0.1:<port>`, once it is ready."""
        self.peer_id = ""
        self.ready_at = 0.0
        """On `time.monotonic`, when it said so."""
        self.log: list[str] = []
        """What it said on stderr, line by line."""
        self._is_ready = threading.Event()
        self._has_ended = threading.Event()
        self._stack = ExitStack()
        self._frozen = ExitStack()
        """What thaws it again; empty while it runs."""
        self.process = self._stack.enter_context(_spawn((*program, command), name, home, flags, token))
        self._http = self._stack.enter_context(httpx.Client(timeout=STOP_TIMEOUT))
        self._reader = threading.Thread(target=self._read_log, name=f"log of {name}")
        self._reader.start()

    def wait_until_ready(self) -> Self:
        """Return once it answers HTTP.

        Raises:
          AssertionError: it ended instead, or does neither.
        """
        self._is_ready.wait(READY_TIMEOUT)
        assert self.api, f"{self.name} did not come up:\n{self._last_words()}"
        return self

    def get(self, path: str) -> httpx.Response:
        """Its answer to a GET."""
        return self._http.get(f"{self.api}{path}")

    def rows(self) -> Rows:
        """The swarm as it sees it now."""
        return {row["name"]: row for row in self.get("/api/swarm").json()["nodes"]}

    def wait_until(self, condition: Callable[[Rows], bool], *, within: float = CHANGE_TIMEOUT) -> float:
        """Look at its view of the swarm until `condition` holds; returns the seconds that took."""
        began_at = time.monotonic()
        while True:
            rows = self.rows()
            elapsed = time.monotonic() - began_at
            if condition(rows):
                return elapsed
            seen = {name: (row["state"], row["slots_busy"], row["models"]) for name, row in rows.items()}
            assert elapsed < within, f"{self.name} saw this for {elapsed:.2f} s: {seen}\n{self._last_words()}"
            self._has_ended.wait(LOOK_INTERVAL)

    def live(self, seconds: float) -> None:
        """Let it run for a while; it must not end meanwhile."""
        assert not self._has_ended.wait(seconds), self._last_words()

    def token(self) -> str:
        """The join token of the swarm it founded."""
        return self.command("token", "show").stdout.split()[-1]

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command on its home, which must succeed."""
        completed = run_program(*arguments, "--home", str(self.home))
        assert completed.returncode == 0, completed.stderr
        return completed

    def engines(self) -> list[psutil.Process]:
        """The processes it has started for its models."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def freeze(self) -> None:
        """Stop it in the middle of whatever it does: its sockets stay open, and nothing answers."""
        if sys.platform != "win32":
            self._frozen.enter_context(_thaw_with_us(self.process.pid))
        psutil.Process(self.process.pid).suspend()

    def thaw(self) -> None:
        """Let it go on."""
        psutil.Process(self.process.pid).resume()
        self._frozen.close()

    def kill(self) -> None:
        """End it without a word, as a power cut would."""
        self.process.kill()
        self.process.wait(STOP_TIMEOUT)

    def wait(self, within: float = STOP_TIMEOUT) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(within)

    def close(self) -> None:
        """End it, politely first, and let go of everything."""
        assert self.process.stdin is not None
        self._frozen.close()
        self.process.stdin.close()
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
        self._reader.join()
        self._stack.close()

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "ready":
                self.ready_at = time.monotonic()
                self.api, self.peer_id = event["api"], event["peer_id"]
                self._is_ready.set()
        self._has_ended.set()
        self._is_ready.set()

    def _last_words(self) -> str:
        return "".join(self.log[-LOG_LINES_SHOWN:])


class NodeProcesses:
    """Every node of one test, with their homes in one folder. Leaving the context ends them all."""

    def __init__(self, folder: Path, program: Program = THE_PROGRAM) -> None:
        self._folder = folder
        self._program = program
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(
        self,
        command: str,
        name: str,
        *flags: str,
        token: str | None = None,
        network: tuple[str, ...] = LOOPBACK_ONLY,
    ) -> NodeProcess:
        """A node of that name, once it answers. `command`: start, join or front."""
        return self.launch(command, name, *flags, token=token, network=network).wait_until_ready()

    def launch(
        self,
        command: str,
        name: str,
        *flags: str,
        token: str | None = None,
        network: tuple[str, ...] = LOOPBACK_ONLY,
    ) -> NodeProcess:
        """The same, before it answers: for those who start together."""
        node = NodeProcess(self._program, command, name, self.home(name), (*network, *flags), token=token)
        self._stack.callback(node.close)
        return node

    def home(self, name: str) -> Path:
        """Where a node of that name lives, or will."""
        return self._folder / name


def run_program(*arguments: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `localai-node` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "node", *arguments],
        env=_environment(token),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=READY_TIMEOUT,
        check=False,
    )


def is_online(rows: Rows, *names: str) -> bool:
    """Whether all these nodes are there and answer probes."""
    return all(name in rows and rows[name]["state"] == "online" for name in names)


def serves(rows: Rows, *names: str) -> bool:
    """Whether all these nodes are online with a model that is loaded."""
    return is_online(rows, *names) and all(
        any(model["state"] == "loaded" for model in rows[name]["models"]) for name in names
    )


def is_running(process: psutil.Process) -> bool:
    """Whether it still does anything: one whose exit code nobody has read yet does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _spawn(
    command: Program, name: str, home: Path, flags: tuple[str, ...], token: str | None
) -> subprocess.Popen[str]:
    arguments = [
        *("--home", str(home), "--name", name, "--api", "127.0.0.1:0"),
        *("--log-format", "json", "--exit-with-stdin"),
        *flags,
    ]
    return subprocess.Popen(
        [*command, *arguments],
        env=_environment(token),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _thaw_with_us(pid: int) -> subprocess.Popen[bytes]:
    """A process that outlives ours for a moment: who is stopped cannot see that its stdin has ended."""
    return subprocess.Popen(["sh", "-c", 'cat; kill -CONT "$1"', "sh", str(pid)], stdin=subprocess.PIPE)


def _environment(token: str | None) -> dict[str, str]:
    """Ours without settings of a node; the token goes this way as command lines are there for all to read."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOCALAI_NODE_")}
    return environment if token is None else {**environment, "LOCALAI_NODE_TOKEN": token}
