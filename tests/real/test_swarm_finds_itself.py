"""Nodes find their swarm again, whichever of them went away and in whatever order they come."""

from __future__ import annotations

import pytest

from tests.real.swarm_processes import NodeProcess, NodeProcesses, is_online

pytestmark = pytest.mark.real


def test_a_node_that_is_up_first_joins_when_its_bootstrap_peer_comes_back(nodes: NodeProcesses) -> None:
    """Also shows that a founder keeps its port: the token names the one it had before."""
    founder = nodes.run("start", "founder")
    token = founder.token()
    founder.close()
    early = nodes.run("join", "early", token=token)
    assert not is_online(early.rows(), "founder")
    returned = nodes.run("start", "founder")
    wait_until_they_meet(early, returned)


def test_members_find_each_other_after_a_power_cut_that_their_founder_did_not_survive(
    nodes: NodeProcesses,
) -> None:
    founder = nodes.run("start", "founder")
    token = founder.token()
    one = nodes.run("join", "one", token=token)
    two = nodes.run("join", "two", token=token)
    wait_until_they_meet(founder, one, two)
    one.wait_until(lambda _: two.peer_id in (one.home / "state.json").read_text())
    for node in (founder, one, two):
        node.kill()
    # Without a token: all they know is in their homes.
    wait_until_they_meet(nodes.run("join", "one"), nodes.run("join", "two"))


def test_a_node_that_cannot_note_where_its_peers_are_serves_on(nodes: NodeProcesses) -> None:
    founder = nodes.run("start", "founder")
    notes = founder.home / "state.json"
    founder.wait_until(lambda _: notes.exists())
    notes.unlink()
    notes.mkdir()  # Which no file can replace, whoever runs the test: as good as a full disk.
    newcomer = nodes.run("join", "newcomer", token=founder.token())
    founder.wait_until(lambda _: any("cannot write" in line for line in founder.log))
    wait_until_they_meet(founder, newcomer)


def wait_until_they_meet(*everybody: NodeProcess) -> None:
    for node in everybody:
        node.wait_until(lambda rows: is_online(rows, *(other.name for other in everybody)))
