"""A node that is stopped in the middle of everything, as a closed laptop is, and then goes on."""

from __future__ import annotations

import json

import pytest

from tests.real.swarm_processes import NodeProcess, NodeProcesses, is_online

pytestmark = pytest.mark.real


def test_a_node_that_slept_knows_what_was_written_and_blames_nobody(nodes: NodeProcesses) -> None:
    founder = nodes.run("start", "founder")
    writer = nodes.run("join", "writer", token=founder.token())
    sleeper = nodes.run("join", "sleeper", token=founder.token())
    everybody = (founder, writer, sleeper)
    for node in everybody:
        node.wait_until(lambda rows: is_online(rows, "founder", "writer", "sleeper"))
    sleeper.freeze()
    try:
        for witness in (founder, writer):
            witness.wait_until(lambda rows: not is_online(rows, "sleeper"), within=3)
        writer.command("drain")
        founder.wait_until(lambda rows: rows["writer"]["state"] == "draining")
    finally:
        lines_before = len(sleeper.log)
        sleeper.thaw()
    for witness in (founder, writer):
        witness.wait_until(lambda rows: is_online(rows, "sleeper"), within=2)
    sleeper.wait_until(
        lambda rows: is_online(rows, "founder") and rows["writer"]["state"] == "draining", within=2
    )
    # The file is written a moment later than what the node knows.
    sleeper.wait_until(lambda _: len({ledger_root(node) for node in everybody}) == 1)
    assert not [line for line in sleeper.log[lines_before:] if "is offline" in line]


def ledger_root(node: NodeProcess) -> str:
    """Two nodes with the same one hold the same."""
    return str(json.loads(node.command("ledger", "verify", "--json").stdout)["root"])
