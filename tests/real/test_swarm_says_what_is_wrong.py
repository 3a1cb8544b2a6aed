"""A node that cannot start says why in one line; one that cannot load a model stays up and says why."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from node.home import Home
from node.models.demo_model import DEMO_MODEL_NAME, find_demo_model
from node.place import found, load_place, new_invite
from p2p.token import Token
from tests.real.conftest import LivingSwarm
from tests.real.swarm_processes import NodeProcess, NodeProcesses, run_program, serves

pytestmark = pytest.mark.real

LONG_AGO = 1_000_000_000
"""Unix time of September 2001."""


def test_a_taken_port_is_named(living_swarm: LivingSwarm, tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create()
    found(home)
    taken = urlsplit(living_swarm.front.api).netloc
    arguments = ["--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--api", taken]
    assert_one_line(1, taken, "start", "--home", str(tmp_path), *arguments)


def test_a_home_has_one_node(living_swarm: LivingSwarm) -> None:
    home = str(living_swarm.front.home)
    assert_one_line(1, home, "start", "--home", home, "--api", "127.0.0.1:0")
    assert living_swarm.front.get("/healthz").status_code == 200


def test_a_front_says_who_gets_models(living_swarm: LivingSwarm) -> None:
    front = living_swarm.front
    reply = httpx.post(f"{front.api}/models/apply", json={"id": "demo"})
    assert reply.status_code == 409
    assert "ask one that does: alpha, beta" in reply.json()["error"]["message"]
    assert front.get("/models/jobs").json() == []
    assert_one_line(1, "alpha, beta", "models", "pull", "demo", "--home", str(front.home))


def test_a_token_that_was_cut_or_altered_or_is_none_is_refused(
    living_swarm: LivingSwarm, tmp_path: Path
) -> None:
    token = living_swarm.token
    middle = len(token) // 2
    altered = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]
    join = ("join", "--home", str(tmp_path), "--api", "127.0.0.1:0")
    assert_one_line(2, "cut", *join, token=token[:-7])
    assert_one_line(2, "altered", *join, token=altered)
    assert_one_line(2, "not a token", *join, token="ghp_of_another_program")


def test_an_expired_token_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path / "founder")
    home.create()
    place = found(home)
    expired = place.token(new_invite(home, place, "worker", LONG_AGO), []).encode()
    assert_one_line(2, "expired", "join", "--home", str(tmp_path / "late"), token=expired)


def test_a_home_is_not_given_to_another_swarm(living_swarm: LivingSwarm, tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create()
    found(home, "attic")
    said = assert_one_line(2, "'attic'", "join", "--home", str(tmp_path), token=living_swarm.token)
    assert repr(Token.decode(living_swarm.token).swarm) in said
    place = load_place(home)
    assert place is not None
    assert place.swarm == "attic"


def test_a_lone_node_says_that_it_needs_a_model_and_takes_one_without_a_restart(
    nodes: NodeProcesses,
) -> None:
    node = nodes.run("start", "lone")
    assert "localai-node models add" in why_not_ready(node)
    node.command("models", "add", "demo")
    node.wait_until(lambda rows: serves(rows, "lone"))
    assert node.get("/readyz").status_code == 200
    assert complete(node, DEMO_MODEL_NAME).status_code == 200
    assert DEMO_MODEL_NAME in node.command("models", "ls").stdout
    node.command("models", "rm", DEMO_MODEL_NAME)
    assert complete(node, DEMO_MODEL_NAME).status_code == 404
    assert "localai-node models add" in why_not_ready(node)
    assert find_demo_model().is_file(), "rm must not delete what it did not copy"


def test_a_model_that_is_cut_short_is_shown_with_the_reason(nodes: NodeProcesses, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    with find_demo_model().open("rb") as whole:
        cut.write_bytes(whole.read(1_000_000))
    node = nodes.run("start", "unlucky", "--model", str(cut))
    node.wait_until(lambda rows: [model["state"] for model in rows["unlucky"]["models"]] == ["failed"])
    [model] = node.rows()["unlucky"]["models"]
    assert model["reason"]
    assert model["reason"] in why_not_ready(node)
    answer = complete(node, "cut")
    assert answer.status_code == 503
    assert model["reason"] in answer.json()["error"]["message"]


def why_not_ready(node: NodeProcess) -> str:
    """The reason in a refusal of `/readyz`."""
    answer = node.get("/readyz")
    assert answer.status_code == 503
    return str(answer.json()["error"]["message"])


def complete(node: NodeProcess, model: str) -> httpx.Response:
    request = {"model": model, "prompt": "One, two,", "max_tokens": 1}
    return httpx.post(f"{node.api}/v1/completions", json=request, timeout=60)


def assert_one_line(code: int, said: str, *arguments: str, token: str | None = None) -> str:
    """Run a command that must end with `code` and one line with `said` in it; returns the line."""
    ended = run_program(*arguments, token=token)
    assert ended.returncode == code, ended.stderr
    [line] = ended.stderr.splitlines()
    assert said in line
    assert token is None or token not in line
    return line
