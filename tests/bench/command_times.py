"""How long a person waits: for `status`, and for the first word of the demo."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tests.bench.figures import Figure
from tests.real.swarm_processes import NodeProcesses

STATUS_RUNS = 10
QUESTION_AND_FIRST_TOKEN = re.compile(rb"^> .+\n.", re.MULTILINE)
"""What the demo prints, up to there."""
DEMO_TIMEOUT = 120.0
"""Seconds. Six times the aim: slower than that, the figure does not matter."""


def measure_status(folder: Path) -> Iterator[Figure]:
    """`localai-node status` against a running node, from nothing to the prompt."""
    with NodeProcesses(folder) as nodes:
        node = nodes.run("start", "asked")
        times = []
        for _ in range(STATUS_RUNS):
            began_at = time.perf_counter()
            node.command("status")
            times.append(time.perf_counter() - began_at)
    yield Figure(f"`localai-node status`, median of {STATUS_RUNS}", median(times), "s", 0.3)


def measure_demo(_: Path) -> Iterator[Figure]:
    """`localai-node demo --once`, from nothing to the first token of its first answer."""
    began_at = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "node", "demo", "--once"], stdout=subprocess.PIPE, bufsize=0
    ) as demo:
        assert demo.stdout is not None
        give_up = threading.Timer(DEMO_TIMEOUT, demo.kill)
        give_up.start()
        said = b""
        while not QUESTION_AND_FIRST_TOKEN.search(said):
            piece = demo.stdout.read(1)
            assert piece, said
            said += piece
        first_token = time.perf_counter() - began_at
        demo.stdout.read()
        give_up.cancel()
        assert demo.wait() == 0
    yield Figure("`localai-node demo` to the first token", first_token, "s", 20)
