"""What nodes hold in their ledgers, read from their files while they run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import inf

from ledger.entry import Entry
from ledger.store import read_ledger_file
from node.home import Home
from node.ledger_inspection import read_contents, verify
from tests.bench.looking import LOOK_INTERVAL_MIN, WITHIN
from tests.real.swarm_processes import NodeProcess


def root(node: NodeProcess) -> bytes:
    """What `localai-node ledger verify` shows: two nodes with the same one hold the same."""
    findings = verify(_entries(node), None)
    assert not findings.wrong, findings.wrong
    return findings.root_digest


def said(node: NodeProcess) -> set[Entry]:
    """What has a value there: whose, under which key, in which version."""
    return {entry for entry in read_contents(_entries(node)).entries if not entry.deleted}


def lost(before: set[Entry], after: set[Entry]) -> set[Entry]:
    """What was said before, and neither stands any more nor gave way to something newer."""
    ranks = {entry.place: entry.rank for entry in after}
    return {entry for entry in before if entry.place not in ranks or ranks[entry.place] < entry.rank}


def wait_until_equal(nodes: Sequence[NodeProcess]) -> float:
    """Seconds until all hold the same; infinite if they do not get there."""
    began_at = time.monotonic()
    while len({root(node) for node in nodes}) > 1:
        if time.monotonic() - began_at > WITHIN:
            return inf
        nodes[0].live(LOOK_INTERVAL_MIN)
    return time.monotonic() - began_at


def _entries(node: NodeProcess) -> Sequence[bytes]:
    return read_ledger_file(Home(node.home).ledger_file, log_limit=0).entries
