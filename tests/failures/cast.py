"""A front without a worker, and the workers behind it, some of whom are struck down and come back."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import httpx

from node.models.demo_model import DEMO_MODEL_NAME
from tests.failures.link import Link
from tests.failures.record import Attempt, Records
from tests.real.swarm_processes import LOOPBACK_ONLY, NodeProcess, NodeProcesses, Program, Rows, serves

RECORDED = (sys.executable, str(Path(__file__).with_name("recorded_node.py")))
"""The program that nodes run here."""

QUIET_WITHIN = 5.0
"""Seconds for leases and slots to be given back: a front hears of a peer's load twice a second."""

_RESTORED_WITHIN = 120.0
"""Seconds for nodes to come up and be seen. Ten, mostly; this only ends what hangs."""

_LOOK_INTERVAL = 0.05


class Cast:
    """All nodes of one swarm. Leaving the context ends them."""

    def __init__(
        self, folder: Path, workers: int, *, model: str = "demo", slots: int = 4, links: Sequence[Link] = ()
    ) -> None:
        """`model`: what all serve. `links`: to the network of each worker; none: all are on loopback."""
        self.workers: dict[str, NodeProcess] = {}
        """By name; one that is dead too, until `restore`."""
        self.records = Records()
        self._model = ("--slots", str(slots), "--model", model)
        self._folder = folder
        self._stack = ExitStack()
        self._stack.callback(self.records.close)
        self._fronts = self._nodes(RECORDED)
        self._front_network = (
            ("--no-mdns", *(f for link in links for f in link.our_flags)) if links else LOOPBACK_ONLY
        )
        self._links = {f"worker-{at}": links[at] if links else None for at in range(workers)}
        self._homes = {name: self._nodes(_program(link)) for name, link in self._links.items()}

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.push(self.__exit__)
            self.front = self._fronts.run("start", "front", "--no-worker", network=self._front_network)
            token = self.front.token()
            for name in self._links:
                self.workers[name] = self._launch("join", name, token)
            self.restore()
            undo.pop_all()
        return self

    def _nodes(self, program: Program) -> NodeProcesses:
        return self._stack.enter_context(NodeProcesses(self._folder, program))

    def _launch(self, command: str, name: str, token: str | None = None) -> NodeProcess:
        link = self._links[name]
        network = ("--no-mdns", *link.their_flags) if link else LOOPBACK_ONLY
        return self._homes[name].launch(command, name, *self._model, token=token, network=network)

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def restore(self, enough: int | None = None) -> None:
        """Start whoever has died again, and wait until `enough` of them serve, or all."""
        for name, worker in self.workers.items():
            if worker.process.poll() is not None:
                worker.close()
                self.workers[name] = self._launch("start", name)
        self._wait_for(enough or len(self.workers))
        for name in self._serving(self.front.rows()):
            self.records.follow(name, self.workers[name].home / "record.jsonl")

    def restart_front(self) -> None:
        """Have a front again, where the first one was."""
        api = self.front.api.removeprefix("http://")
        self.front.close()
        self.front = self._fronts.run(
            "start", "front", "--no-worker", "--api", api, network=self._front_network
        )
        self._wait_for(len(self.workers))

    def serving(self, request_id: str) -> NodeProcess | None:
        """Who serves it now; None: nobody has begun, or it is done."""
        attempts = self.attempts(request_id)
        return self.workers[attempts[-1].node] if attempts and not attempts[-1].is_done else None

    def attempts(self, request_id: str) -> list[Attempt]:
        """All at this request so far."""
        return self.records.attempts(request_id)

    def words_of(self, ids: list[int]) -> str:
        """What these tokens say."""
        asked = {"model": DEMO_MODEL_NAME, "tokens": ids}
        answer = httpx.post(f"{self.front.api}/v1/detokenize", json=asked, timeout=30)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["content"])

    def leases_left(self) -> int:
        """Slots that the front believes busy, once they had time to be given back."""
        return _settled(lambda: sum(row["slots_busy"] for row in self.front.rows().values()))

    def slots_left(self) -> int:
        """Slots that are busy in the engines of those who live, once they had time to be given back."""
        living = [each for each in self.workers.values() if each.api and each.process.poll() is None]
        return _settled(
            lambda: sum(
                engine["slots_busy"] + engine["waiting"] for each in living for engine in engines(each)
            )
        )

    def _wait_for(self, enough: int) -> None:
        """Return once so many serve, and nobody does anything."""

        def is_so(rows: Rows) -> bool:
            return len(self._serving(rows)) >= enough and not any(row["slots_busy"] for row in rows.values())

        self.front.wait_until(is_so, within=_RESTORED_WITHIN)

    def _serving(self, rows: Rows) -> list[str]:
        """Who does. Before one that was started has said ready, its row is of its former life."""
        return [name for name, worker in self.workers.items() if worker.api and serves(rows, name)]


def _program(link: Link | None) -> Program:
    return RECORDED if link is None else (*link.command, *RECORDED)


def engines(worker: NodeProcess) -> list[dict[str, Any]]:
    """What `/backend/monitor` says of them."""
    return list(worker.get("/backend/monitor").json()["models"])


def crash_engines(worker: NodeProcess) -> None:
    """Have them all die of a bad pointer."""
    for engine in engines(worker):
        if engine["pid"] is not None:
            os.kill(engine["pid"], signal.SIGSEGV)


def let_engines_recover(worker: NodeProcess) -> None:
    """Have those that crashed finish an answer: three crashes with none between them are a failed model."""
    worker.wait_until(lambda rows: serves(rows, worker.name))
    [model] = [engine["model"] for engine in engines(worker)]
    # The demo model does not embed, and what the others here do is nothing else.
    path = "completions" if model == DEMO_MODEL_NAME else "embeddings"
    asked = {"model": model} | (
        {"prompt": "Hi", "max_tokens": 1} if path == "completions" else {"input": "Hi"}
    )
    served_by = ""
    while served_by != worker.peer_id:
        answer = httpx.post(
            f"{worker.api}/v1/{path}", json=asked, headers={"x-localai-only": worker.name}, timeout=30
        )
        served_by = answer.headers["x-localai-peer"]


def _settled(look: Callable[[], int]) -> int:
    """What is seen when it has become 0, or has not."""
    give_up_at = time.monotonic() + QUIET_WITHIN
    while (seen := look()) and time.monotonic() < give_up_at:
        threading.Event().wait(_LOOK_INTERVAL)
    return seen
