"""Two fronts and more clients than the one worker has slots: all are answered, and nobody is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from node.models.demo_model import DEMO_MODEL_NAME
from tests.real.swarm_processes import NodeProcess, NodeProcesses, serves

pytestmark = pytest.mark.real

CLIENTS = 6
"""Of each front."""
TOKENS = 24
"""Of each answer. With 48, twelve took 45 s one after the other on a busy machine, of 120 for a test."""


def test_more_requests_than_slots_are_all_answered_by_both_fronts(nodes: NodeProcesses) -> None:
    worker = nodes.run("start", "worker", "--model", "demo", "--slots", "1")
    front = nodes.run("front", "front", token=worker.token())
    front.wait_until(lambda rows: serves(rows, "worker"))
    with ThreadPoolExecutor(2 * CLIENTS) as clients:
        answers = [clients.submit(ask, node) for node in (worker, front) for _ in range(CLIENTS)]
        lines = {model["model"]: model["waiting"] for model in wait_for_a_line(front)}
        waited = [each.result() for each in answers]
    assert 0 < lines[DEMO_MODEL_NAME] <= CLIENTS
    assert all(tokens == TOKENS for tokens, _ in waited)
    # The worker answers one at a time, so whoever came last waited for all others.
    longest = sorted(wait_ms for _, wait_ms in waited)
    assert longest[0] < longest[-1] / 3
    assert front.get("/api/swarm").json()["waiting"] == []
    front.wait_until(lambda rows: rows["worker"]["slots_busy"] == 0)


def ask(node: NodeProcess) -> tuple[int, float]:
    """How many tokens came, and how many milliseconds it had waited for a slot."""
    with openai.OpenAI(base_url=f"{node.api}/v1", api_key="none", max_retries=0) as client:
        answer = client.completions.with_raw_response.create(
            model=DEMO_MODEL_NAME, prompt="One, two,", max_tokens=TOKENS, extra_body={"ignore_eos": True}
        )
        usage = answer.parse().usage
        assert usage is not None
        durations = dict(each.split(";dur=") for each in answer.headers["server-timing"].split(", "))
        return usage.completion_tokens, float(durations["queue"])


def wait_for_a_line(node: NodeProcess) -> list[dict[str, Any]]:
    """What `node` says of who waits, once somebody does."""
    lines: list[dict[str, Any]] = []

    def has_line(_: object) -> bool:
        lines[:] = node.get("/api/swarm").json()["waiting"]
        return bool(lines)

    node.wait_until(has_line)
    return lines
