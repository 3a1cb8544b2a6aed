"""A home that was copied while its node ran: two processes with one key, which cannot both go on."""

from __future__ import annotations

import shutil

import pytest

from tests.real.swarm_processes import NodeProcesses, is_online

pytestmark = pytest.mark.real

WHAT_A_COPY_NEEDS = ("node.key", "swarm.msgpack", "ledger.sqlite")
PROOF_TIMEOUT = 50.0
"""Seconds until both know. The two take each other's place at the witness's door, every five to ten seconds,
and the proof is complete after two to four such turns."""


def test_both_processes_of_a_copied_home_say_so_and_end_and_nobody_else_does(nodes: NodeProcesses) -> None:
    witness = nodes.run("start", "witness")
    original = nodes.run("join", "original", token=witness.token())
    for node in (witness, original):
        node.wait_until(lambda rows: is_online(rows, "witness", "original"))
    nodes.home("copy").mkdir()
    for file in WHAT_A_COPY_NEEDS:
        shutil.copy(original.home / file, nodes.home("copy") / file)
    copy = nodes.run("start", "copy")
    assert copy.peer_id == original.peer_id
    for twin in (original, copy):
        assert twin.wait(PROOF_TIMEOUT) == 1
        twin.close()  # Its log is whole then.
        assert "this home was copied" in twin.log[-1]
    guest = nodes.run("join", "guest", token=witness.token())
    for node in (witness, guest):
        node.wait_until(lambda rows: is_online(rows, "witness", "guest"))
