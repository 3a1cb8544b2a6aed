"""What a damaged file of the ledger held comes back: from the peers, or from the node's own memory.

On the real clock: the file is written in threads, which no other one waits for.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio

from p2p.memory_network import MemoryHub
from tests.ledger.replicas import Replica, are_equal, replicas, until
from tests.ledger.stored_entries import stored

TIMEOUT = 30.0
"""Seconds; this takes a fraction of one."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def moved_aside(path: Path) -> bool:
    return path.with_name("ledger.sqlite.damaged").exists()


async def meet_and_agree(one: Replica, other: Replica) -> None:
    for number in range(20):
        one.ledger.put(f"model/{number}", {"x": number})
    await one.meet(other)
    await until(lambda: are_equal([one, other]), [one, other])


def all_of(replica: Replica) -> list[bytes]:
    return sorted(entry.encoded for entry in replica.ledger.state.entries())


async def live(path: Path, *, is_damaged_meanwhile: bool = False) -> list[bytes]:
    """A node that keeps its ledger in `path` and a peer agree; returns what both hold then."""
    with trio.fail_after(TIMEOUT):
        async with replicas(MemoryHub(), 2, path) as (peer, node):
            await meet_and_agree(peer, node)
            if is_damaged_meanwhile:
                path.write_bytes(path.read_bytes()[:2000])
                peer.ledger.put("model/new", {})
                while not moved_aside(path):
                    await trio.lowlevel.checkpoint()
                await until(lambda: are_equal([peer, node]), [peer, node])
            return all_of(peer)


def test_a_file_that_was_garbage_at_the_start_is_filled_by_the_peers(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    held = trio.run(live, path)
    assert moved_aside(path)
    assert sorted(stored(path)) == held


def test_a_file_that_is_cut_while_the_node_runs_is_filled_from_its_memory(path: Path) -> None:
    trio.run(live, path)  # What is cut must have come out of the journal.
    held = trio.run(partial(live, path, is_damaged_meanwhile=True))
    assert sorted(stored(path)) == held
