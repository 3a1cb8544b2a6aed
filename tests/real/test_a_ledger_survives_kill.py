"""A process that is killed while it writes its ledger loses nothing that was stored."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.entry import decode_entry_untrusted
from ledger.ledger import Ledger
from ledger.store import open_store
from p2p.identity import Identity

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
KILLS = 12
"""Each costs a Python start. Enough to hit writes, checkpoints and the journal's first page."""

WRITER = """
import sys
from pathlib import Path

from ledger.entry import sign_entry
from ledger.store import open_store
from ledger.version import Version
from p2p.identity import Identity

identity = Identity(bytes([1]) * 32)
epoch, counter = int(sys.argv[2]), 0
with open_store(Path(sys.argv[1])) as store:
    while True:
        batch = []
        for _ in range(counter % 5 + 1):
            counter += 1
            key, value = f"model/{counter % 50}", bytes(counter % 3000)
            batch.append(sign_entry(identity, key, Version(epoch, counter), value))
        store.write(batch)
        print(counter, flush=True)
"""


def test_what_was_stored_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    rng = random.Random(1)
    most_stored = 0
    for epoch in range(1, KILLS + 1):
        stored = write_until_killed(path, epoch, lines=rng.randint(1, 300))
        with open_store(path) as store:
            entries = [decode_entry_untrusted(encoded) for encoded in store.load()]
        assert all(entry.is_signed_by_owner() for entry in entries)
        newest = max(entry.version for entry in entries)
        assert (newest.epoch, newest.counter) >= (epoch, stored)
        most_stored = max(most_stored, stored)
        assert len(entries) >= min(50, most_stored)
    assert not path.with_name("ledger.sqlite.damaged").exists()


def test_a_killed_node_writes_on_from_its_last_version(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    write_until_killed(path, 1, lines=20)
    ledger = Ledger.open(path, Identity(bytes([1]) * 32))
    newest = max(entry.version for entry in ledger.entries())
    ledger.put("node", {})
    written = ledger.state.get(ledger.me, "node")
    assert written is not None
    assert written.version == newest.next()
    ledger.close()


def write_until_killed(path: Path, epoch: int, lines: int) -> int:
    """Let a process write, and kill it after it has said `lines` times what is stored.

    Returns the last it said.
    """
    command = [sys.executable, "-c", WRITER, str(path), str(epoch)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(lines)]
        writer.kill()
        said += writer.stdout.readlines()
    whole = [line for line in said if line.endswith("\n")]
    return int(whole[-1])
