"""A client of LocalAI's calls gets a model of a gallery, watches it come, uses it, and takes it away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from node.models.demo_model import DEMO_MODEL_SHA256, find_demo_model
from tests.real.model_jobs import files_of, is_done, job_of, order, post, wait_for_job
from tests.real.swarm_processes import STOP_TIMEOUT, NodeProcess, NodeProcesses

pytestmark = pytest.mark.real

TOKENS = 300


def entry(name: str, sha256: str = DEMO_MODEL_SHA256) -> dict[str, Any]:
    """A model of a gallery whose file is the demo model's."""
    file = {"filename": "m.gguf", "uri": find_demo_model().as_uri(), "sha256": sha256}
    return {"name": name, "files": [file], "overrides": {"parameters": {"model": "m.gguf"}}}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    folder = tmp_path_factory.mktemp("gallery")
    index = folder / "home.yaml"
    index.write_text(yaml.safe_dump([entry("small"), entry("doomed"), entry("broken", "ab" * 32)]))
    with NodeProcesses(folder) as nodes:
        yield nodes.run("start", "alpha", "--gallery", f"home={index}")


def events(node: NodeProcess, path: str) -> Iterator[Any]:
    """What a stream of server-sent events says, until it says that it is over."""
    with httpx.stream("GET", f"{node.api}{path}", timeout=STOP_TIMEOUT) as reply:
        assert reply.status_code == 200
        yield from data_of(reply)


def data_of(reply: httpx.Response) -> Iterator[Any]:
    for line in reply.iter_lines():
        if line == "data: [DONE]":
            return
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))
    raise AssertionError("the stream broke off")


def test_a_model_of_a_gallery_is_ordered_watched_and_used(node: NodeProcess) -> None:
    assert {"small", "doomed"} <= {model["name"] for model in node.get("/models/available").json()}
    applied = post(node, "/models/apply", id="home@small").json()
    assert applied["status"] == f"{node.api}/models/jobs/{applied['uuid']}"
    states = list(events(node, f"/models/jobs/{applied['uuid']}/events"))
    assert (states[-1]["processed"], states[-1]["error"], states[-1]["progress"]) == (True, None, 100.0)
    assert [state["progress"] for state in states] == sorted(state["progress"] for state in states)
    assert httpx.get(applied["status"]).json() == states[-1]
    assert applied["uuid"] in {state["uuid"] for state in node.get("/models/jobs").json()}
    assert {"small.gguf", "small.yaml"} <= files_of(node)
    asked = post(node, "/v1/completions", model="small", prompt="Paris is", max_tokens=2)
    assert asked.status_code == 200, asked.text


def test_a_file_that_is_not_what_its_gallery_says_is_never_served(node: NodeProcess) -> None:
    job_id = order(node, id="home@broken")
    node.wait_until(lambda _: job_of(node, job_id)["state"] == "failed")
    assert "sha256" in job_of(node, job_id)["reason"]
    assert post(node, "/v1/completions", model="broken", prompt="x", max_tokens=1).status_code == 404
    assert not [name for name in files_of(node) if "broken" in name]


def test_a_model_that_is_deleted_finishes_its_answers_first(node: NodeProcess) -> None:
    wait_for_job(node, order(node, id="home@doomed"), is_done)
    body = {"model": "doomed", "prompt": "Once upon a time", "max_tokens": TOKENS, "stream": True}
    with (
        ThreadPoolExecutor() as threads,
        httpx.stream("POST", f"{node.api}/v1/completions", json=body, timeout=STOP_TIMEOUT) as reply,
    ):
        said = data_of(reply)
        first = next(said)
        deletion = threads.submit(post, node, "/models/delete/doomed")
        node.wait_until(lambda rows: "doomed" not in {model["name"] for model in rows["alpha"]["models"]})
        assert not deletion.done()
        rest = list(said)
        deleted = deletion.result()
    assert first["choices"][0]["finish_reason"] is None
    assert rest[-1]["choices"][0]["finish_reason"] in ("length", "stop")
    assert {Path(path).name for path in deleted.json()["deleted"]} == {"doomed.gguf", "doomed.yaml"}
    assert not {"doomed.gguf", "doomed.yaml"} & files_of(node)
    assert post(node, "/v1/completions", model="doomed", prompt="x", max_tokens=1).status_code == 404
