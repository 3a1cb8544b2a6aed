"""Models on their way between real nodes: ordered, watched, counted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from node.models.demo_model import DEMO_MODEL_NAME, DEMO_MODEL_SHA256
from tests.real.swarm_processes import STOP_TIMEOUT, NodeProcess, Rows

DEMO = str(DEMO_MODEL_NAME)
SLOWLY = ("--upload-rate", "20MB")
"""A seeder that needs five seconds for the demo model, so that there is time to strike in the middle."""


def post(node: NodeProcess, path: str, **body: object) -> httpx.Response:
    return httpx.post(f"{node.api}{path}", json=body, timeout=STOP_TIMEOUT)


def order(node: NodeProcess, **body: object) -> str:
    """The id of the job that gets a model."""
    applied = post(node, "/models/apply", **body)
    assert applied.status_code == 200, applied.text
    return str(applied.json()["uuid"])


def job_of(node: NodeProcess, job_id: str) -> Mapping[str, Any]:
    told: Mapping[str, Any] = node.get(f"/models/jobs/{job_id}").json()["job"]
    return told


def wait_for_job(
    node: NodeProcess, job_id: str, condition: Callable[[Mapping[str, Any]], bool]
) -> Mapping[str, Any]:
    """The job, once `condition` holds; it must not fail before."""
    job: Mapping[str, Any] = {}

    def look(_: Rows) -> bool:
        nonlocal job
        job = job_of(node, job_id)
        assert job["state"] not in ("failed", "cancelled"), job
        return condition(job)

    node.wait_until(look)
    return job


def is_done(job: Mapping[str, Any]) -> bool:
    return bool(job["state"] == "done")


def has_demo(rows: Rows, *names: str) -> bool:
    """Whether all these nodes are known to have the demo model, whole."""
    return all(
        any(model.get("sha256") == DEMO_MODEL_SHA256 for model in rows[name]["models"])
        for name in names
        if name in rows
    ) and set(names) <= set(rows)


def bytes_by_peer(node: NodeProcess, name: str) -> Mapping[str, int]:
    """What `node` counted as `localai_node_peer_<name>`, by peer id."""
    families = text_string_to_metric_families(node.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    return {
        sample.labels["peer"]: int(sample.value)
        for sample in samples
        if sample.name == f"localai_node_peer_{name}_total"
    }


def sha256_on_disk(node: NodeProcess) -> str:
    """Of the demo model in the folder of that node's home."""
    with (node.home / "models" / f"{DEMO}.gguf").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(node: NodeProcess) -> set[str]:
    """What lies in its models folder and those in it, hidden files too."""
    return {path.name for path in (node.home / "models").rglob("*") if path.is_file()}
