"""One node has a model, and all have it: from each other, whoever dies on the way."""

from __future__ import annotations

import httpx
import pytest

from node.models.demo_model import DEMO_MODEL_SHA256
from p2p.blobs.manifest import CHUNK_SIZE
from tests.real.model_jobs import (
    DEMO,
    SLOWLY,
    bytes_by_peer,
    files_of,
    has_demo,
    is_done,
    job_of,
    order,
    sha256_on_disk,
    wait_for_job,
)
from tests.real.swarm_processes import STOP_TIMEOUT, NodeProcess, NodeProcesses

pytestmark = pytest.mark.real

WASTED_MAX = 0.05
"""Of the file, fetched twice."""
UNDER_WAY = 4 * CHUNK_SIZE
"""Bytes that one seeder owes at most at 20 MB a second (`FetchConfig`: half a second of work, and whole
chunks): what of them had not come as a whole is lost with whoever dies."""


def test_two_nodes_get_from_the_first_and_from_each_other_what_it_has(nodes: NodeProcesses) -> None:
    alpha = nodes.run("start", "alpha", *SLOWLY)
    assert "served from now on (from disk)" in alpha.command("models", "pull", "demo").stdout
    token = alpha.token()
    others = [nodes.launch("join", name, token=token) for name in ("beta", "gamma")]
    for node in others:
        node.wait_until_ready().wait_until(lambda rows: has_demo(rows, "alpha"))
    ordered = [(node, order(node, url="demo")) for node in others]
    for node, job_id in ordered:
        job = wait_for_job(node, job_id, is_done)
        assert set(job["sources"]) <= {"alpha", "beta", "gamma"} - {node.name}
        assert job["done_bytes"] == job["size_bytes"] <= sum(job["sources"].values())
        assert sha256_on_disk(node) == DEMO_MODEL_SHA256
        assert files_of(node) == {f"{DEMO}.gguf", f"{DEMO}.yaml"}
        assert answers(node)
    assert "uploaded to beta: " in alpha.command("models", "jobs").stdout


def test_a_fetcher_that_is_killed_goes_on_with_what_it_has(nodes: NodeProcesses) -> None:
    alpha = nodes.run("start", "alpha", *SLOWLY, "--model", "demo")
    beta = nodes.run("join", "beta", token=alpha.token())
    beta.wait_until(lambda rows: has_demo(rows, "alpha"))
    job_id = order(beta, url="demo")
    wait_for_job(beta, job_id, lambda job: job["fraction"] >= 0.5)
    beta.kill()
    again = nodes.run("join", "beta")
    job = wait_for_job(again, job_id, is_done)
    assert sha256_on_disk(again) == DEMO_MODEL_SHA256
    assert files_of(again) == {f"{DEMO}.gguf", f"{DEMO}.yaml"}
    assert set(job["sources"]) == {"alpha"}
    fetched = bytes_by_peer(alpha, "uploaded_bytes")[again.peer_id]
    assert job["size_bytes"] <= fetched <= (1 + WASTED_MAX) * job["size_bytes"] + UNDER_WAY


def test_what_a_dead_seeder_owed_comes_from_another_one(nodes: NodeProcesses) -> None:
    alpha = nodes.run("start", "alpha", *SLOWLY, "--model", "demo")
    token = alpha.token()
    gamma = nodes.run("join", "gamma", *SLOWLY, "--model", "demo", token=token)
    beta = nodes.run("join", "beta", token=token)
    beta.wait_until(lambda rows: has_demo(rows, "alpha", "gamma"))
    job_id = order(beta, url="demo")
    wait_for_job(beta, job_id, lambda job: job["fraction"] >= 0.4 and len(job["sources"]) == 2)
    gamma.kill()
    assert not is_done(job_of(beta, job_id))
    job = wait_for_job(beta, job_id, is_done)
    assert sha256_on_disk(beta) == DEMO_MODEL_SHA256
    fetched = bytes_by_peer(beta, "fetched_bytes")
    assert set(fetched) == {alpha.peer_id, gamma.peer_id}
    assert sum(fetched.values()) <= (1 + WASTED_MAX) * job["size_bytes"] + UNDER_WAY


def answers(node: NodeProcess) -> bool:
    """Whether its own engine answers a chat."""
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    reply = httpx.post(
        f"{node.api}/v1/chat/completions",
        json={"model": DEMO, "messages": messages, "max_tokens": 16, "temperature": 0},
        headers={"x-localai-only": node.name},
        timeout=STOP_TIMEOUT,
    )
    assert reply.headers["x-localai-peer"] == node.peer_id
    return "Paris" in reply.json()["choices"][0]["message"]["content"]
