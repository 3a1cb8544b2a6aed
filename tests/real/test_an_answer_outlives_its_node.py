"""The official client reads an answer to its end, although the node that gives it is killed in the middle."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass

import httpx
import openai
import psutil
import pytest

from node.models.demo_model import DEMO_MODEL_NAME, DEMO_MODEL_SHA256
from tests.real.swarm_processes import NodeProcess, NodeProcesses, Rows, serves

pytestmark = pytest.mark.real

NUMBERS = " ".join(map(str, range(80)))
"""What a grammar leaves no choice but to say, so that it shows what was repeated or lost: some 230 tokens."""
GRAMMAR = f'root ::= "{NUMBERS}"'
RESUMES = "localai_node_peer_resumes"
READ_FIRST = 10
"""Pieces that are read before the node is killed: so much has been delivered, and most is still to come."""


@dataclass
class Trio:
    """A front without a worker, and two nodes that serve the demo model."""

    front: NodeProcess
    workers: dict[str, NodeProcess]
    """By peer id."""

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.front.api}/v1", api_key="none", max_retries=0)


@pytest.fixture
def swarm(nodes: NodeProcesses) -> Trio:
    alpha = nodes.run("start", "alpha", "--model", "demo")
    token = alpha.token()
    beta = nodes.launch("join", "beta", "--model", "demo", token=token)
    front = nodes.run("front", "front", token=token)
    beta.wait_until_ready()
    front.wait_until(lambda rows: serves(rows, "alpha", "beta"))
    swarm = Trio(front, {node.peer_id: node for node in (alpha, beta)})
    found: set[str] = set()
    with swarm.client() as client:

        def is_known_on_both(_: Rows) -> bool:
            """A file is hashed in the background, and its hash is what makes it the same one."""
            try:
                for node in (alpha, beta):
                    answer = client.completions.with_raw_response.create(
                        model=f"{DEMO_MODEL_NAME}@sha256:{DEMO_MODEL_SHA256}",
                        prompt="a",
                        max_tokens=1,
                        extra_headers={"x-localai-only": node.name},
                    )
                    found.add(answer.headers["x-localai-peer"])
            except (openai.NotFoundError, openai.InternalServerError):
                return False  # Nobody is known to have it yet, or only the other one.
            return found == set(swarm.workers)

        front.wait_until(is_known_on_both)
    return swarm


def test_a_stream_is_read_to_its_end_although_its_node_is_killed(swarm: Trio) -> None:
    with swarm.client() as client:
        answer = client.chat.completions.with_raw_response.create(
            model=DEMO_MODEL_NAME,
            messages=[{"role": "user", "content": "Count."}],
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"grammar": GRAMMAR},
        )
        pieces: list[str] = []
        reasons: list[str] = []
        usage = None
        for chunk in answer.parse():
            usage = chunk.usage or usage
            pieces += [choice.delta.content for choice in chunk.choices if choice.delta.content]
            reasons += [choice.finish_reason for choice in chunk.choices if choice.finish_reason]
            if len(pieces) == READ_FIRST:
                swarm.workers[answer.headers["x-localai-peer"]].kill()
        assert "".join(pieces) == NUMBERS
        assert reasons == ["stop"]
        assert usage is not None
        assert usage.completion_tokens == count_tokens(swarm.front, NUMBERS)


def test_a_schema_is_kept_to_although_the_engine_is_killed(swarm: Trio) -> None:
    wanted = {"counted": NUMBERS, "is_done": True}
    schema = {
        "type": "object",
        "properties": {name: {"const": value} for name, value in wanted.items()},
        "required": [*wanted],
        "additionalProperties": False,
    }
    with swarm.client() as client:
        answer = client.chat.completions.with_raw_response.create(
            model=DEMO_MODEL_NAME,
            messages=[{"role": "user", "content": "Count."}],
            stream=True,
            response_format={"type": "json_schema", "json_schema": {"name": "count", "schema": schema}},
        )
        pieces: list[str] = []
        reasons: list[str] = []
        for chunk in answer.parse():
            pieces += [choice.delta.content for choice in chunk.choices if choice.delta.content]
            reasons += [choice.finish_reason for choice in chunk.choices if choice.finish_reason]
            if len(pieces) == READ_FIRST:
                kill_engine(swarm.workers[answer.headers["x-localai-peer"]])
        assert json.loads("".join(pieces)) == wanted
        assert reasons == ["stop"]
    assert resumes(swarm.front) == 1


def test_a_whole_answer_comes_although_its_node_is_killed(swarm: Trio) -> None:
    with swarm.client() as client:

        def kill_who_serves() -> None:
            swarm.front.wait_until(lambda _: any(serving(node) for node in swarm.workers.values()))
            next(node for node in swarm.workers.values() if serving(node)).kill()

        killer = threading.Thread(target=kill_who_serves)
        killer.start()
        answer = client.completions.with_raw_response.create(
            model=DEMO_MODEL_NAME, prompt="Count.", extra_body={"grammar": GRAMMAR}
        )
        killer.join()
        whole = answer.parse()
        assert whole.choices[0].text == NUMBERS
        assert whole.choices[0].finish_reason == "stop"
        survivor = next(peer for peer, node in swarm.workers.items() if node.process.poll() is None)
        assert (answer.headers["x-localai-peer"], answer.headers["x-localai-attempts"]) == (survivor, "2")


def serving(node: NodeProcess) -> bool:
    """Whether it gives an answer now, as it says itself."""
    return node.process.poll() is None and bool(node.rows()[node.name]["slots_busy"])


def kill_engine(node: NodeProcess) -> None:
    """Of its only model; the node itself lives."""
    [model] = node.get("/backend/monitor").json()["models"]
    psutil.Process(model["pid"]).kill()


def resumes(front: NodeProcess) -> float:
    """How many answers somebody went on with."""
    lines = [line for line in front.get("/metrics").text.splitlines() if line.startswith(RESUMES)]
    return sum(float(line.split()[-1]) for line in lines)


def count_tokens(front: NodeProcess, text: str) -> int:
    asked = {"model": DEMO_MODEL_NAME, "content": text}
    return len(httpx.post(f"{front.api}/v1/tokenize", json=asked).json()["tokens"])
