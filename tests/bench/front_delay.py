"""What a front adds: the time to the first token of a remote peer, asked through it and asked directly.

Both ways are asked in turn, one request at a time, so that whatever else the machine
does hits both alike. Most of each time is the engine's own prefill, whose noise is
larger than what is looked for: the median of many is the figure to trust.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from node.models.demo_model import DEMO_MODEL_NAME
from tests.bench.figures import Figure, percentile
from tests.real.swarm_processes import NodeProcess, NodeProcesses, serves

REQUESTS = 200
"""Each way. The 99th percentile then stands on two samples, which is as much as a minute affords."""
WARM_UP = 10
"""Each way: connections, streams and caches are there after the first few."""


def measure(folder: Path) -> Iterator[Figure]:
    """A worker, a front, and 200 requests to each."""
    with NodeProcesses(folder) as nodes:
        worker = nodes.run("start", "worker", "--model", "demo")
        front = nodes.run("front", "front", token=worker.token())
        front.wait_until(lambda rows: serves(rows, "worker"))
        ways = {"directly": FirstTokens(worker), "through a front": FirstTokens(front)}
        delays: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(WARM_UP + REQUESTS):
            for way, client in ways.items():
                delays[way].append(client.delay())
        for client in ways.values():
            client.close()
    for percent in (50, 99):
        direct, through = (
            percentile(delays[way][WARM_UP:], percent) * 1000 for way in ("directly", "through a front")
        )
        yield Figure(f"time to first token, asked directly, p{percent}", direct, "ms")
        yield Figure(f"time to first token, through a front, p{percent}", through, "ms")
        aim = 4 if percent == 50 else None
        yield Figure(f"added by the front, p{percent}", through - direct, "ms", aim)


class FirstTokens:
    """One connection to a node, as a browser or the openai client keeps it."""

    def __init__(self, node: NodeProcess) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(node.api).netloc)
        request = {"model": DEMO_MODEL_NAME, "prompt": "One, two,", "max_tokens": 1, "stream": True}
        self._body = json.dumps(request)

    def delay(self) -> float:
        """Seconds from asking to the first token of a streamed answer."""
        asked_at = time.perf_counter()
        self._connection.request(
            "POST", "/v1/completions", self._body, headers={"Content-Type": "application/json"}
        )
        answer = self._connection.getresponse()
        first = answer.readline()
        delay = time.perf_counter() - asked_at
        assert answer.status == http.HTTPStatus.OK, first
        assert answer.read().rstrip().endswith(b"data: [DONE]")
        return delay

    def close(self) -> None:
        self._connection.close()
