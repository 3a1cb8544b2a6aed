"""Commands find the node of their home, learn what they ask, and neither ends it nor gives it away."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.home import Home
from node.place import load_place
from p2p.identity import Identity
from p2p.token import Token
from tests.real.swarm_processes import NodeProcesses, is_online, run_program

pytestmark = pytest.mark.real


def secrets_of(home: Path) -> Iterator[bytes]:
    """All that must stay in a home."""
    kept = Home(home)
    place = load_place(kept)
    assert place is not None
    yield place.secret
    for path in (kept.node_key, kept.founder_key):
        if path.exists():
            yield Identity.load(path).seed
    if place.invite is not None:
        yield place.invite.key.seed


def gives_away(text: str, secret: bytes) -> bool:
    spellings = (
        secret.hex(),
        repr(secret)[2:-1],
        b64encode(secret).decode(),
        urlsafe_b64encode(secret).decode(),
    )
    return any(spelling.rstrip("=") in text for spelling in spellings)


def test_a_token_made_before_its_node_ever_ran_comes_true_and_no_log_gives_a_secret_away(
    nodes: NodeProcesses, tmp_path: Path
) -> None:
    founder_home = tmp_path / "alpha"
    made = run_program("token", "new", "--home", str(founder_home), "--listen", "/ip4/127.0.0.1/tcp/0")
    token = made.stdout.splitlines()[-1]
    alpha = nodes.run("start", "alpha", "--log-level", "debug")
    beta = nodes.run("join", "beta", "--log-level", "debug", token=token)
    alpha.wait_until(lambda rows: is_online(rows, "alpha", "beta"))
    assert alpha.token() == token
    shown = [alpha.command(*command).stdout for command in (("status",), ("models", "ls"), ("doctor",))]
    shown.append(run_program("token", "inspect", token).stdout)
    told = "".join([*shown, *alpha.log, *beta.log])
    assert "beta" in told
    for home in (founder_home, tmp_path / "beta"):
        assert not any(gives_away(told, secret) for secret in secrets_of(home))
    assert token not in told


def test_commands_of_a_home_ask_its_node_whatever_goes_wrong(nodes: NodeProcesses, tmp_path: Path) -> None:
    # It becomes ready at a level at which nothing else is worth a line.
    node = nodes.run("start", "alpha", "--log-level", "error")
    no_model = tmp_path / "notes.gguf"
    no_model.write_text("Dear diary")
    refused = run_program("models", "add", str(no_model), "--home", str(node.home))
    assert refused.returncode == 1
    assert "notes.gguf is not a GGUF file" in refused.stderr
    assert run_program("models", "rm", "gpt-5", "--home", str(node.home)).returncode == 1
    asked_for_none = run_program("chat", "gpt-5", "Hello?", "--home", str(node.home))
    assert asked_for_none.returncode == 1
    assert "gpt-5" in asked_for_none.stderr
    port = Token.decode(node.token()).addresses[0].multiaddr.rpartition("/")[2]
    findings = node.command("doctor").stdout
    assert f"{node.api}: our node answers there" in findings
    assert f"/tcp/{port}: our node listens there" in findings
    assert node.command("status").stdout.startswith("swarm home: 1 node\n")
    assert "nothing new is taken" in node.command("drain").stdout
    assert "is draining" in node.get("/readyz").json()["error"]["message"]
    node.command("leave")
    assert node.wait() == 0
    assert run_program("status", "--home", str(node.home)).returncode == 1
