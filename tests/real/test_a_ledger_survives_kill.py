"""A process that is killed while it writes its ledger loses nothing that was stored, and nothing by half.

    transaction n   writes five entries that all say n, drops `gone/<n-1>`, writes `gone/<n>`,
                    and notes n in the log; then n is told

So whichever instant the kill comes at, the file tells which transaction was the last, and
whether any part of another one is there.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.entry import decode_entry_untrusted
from ledger.ledger import Ledger
from ledger.record_fields import decode_value_untrusted
from ledger.store import open_store, read_ledger_file
from tests.ledger.stored_entries import AUTHOR, entry, make_version_1, rows_of
from tests.p2p.people import FOUNDER

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]

KILLS = int(os.environ.get("LEDGER_KILLS", "25"))
"""Each costs a Python start. Enough to hit the opening, writes, checkpoints and the trimming of the log;
for a night: LEDGER_KILLS=5000 pytest --timeout=0."""

SEED = int(os.environ.get("SEED", "1"))

WRITER = """
import sys
from pathlib import Path

import ledger.store_log
from ledger.entry import Place
from ledger.record_fields import encode_value
from ledger.store import open_store
from tests.ledger.stored_entries import ALICE, entry, row

ledger.store_log.LOG_ROWS_MAX, ledger.store_log._TRIM_EVERY = 100, 20
counter, room = int(sys.argv[2]), int(sys.argv[3])
print("opens", flush=True)
with open_store(Path(sys.argv[1])) as store:
    while True:
        counter += 1
        value = encode_value({"transaction": counter, "filling": bytes(counter * 97 % room)})
        kept = [entry(f"model/{number}", counter, value) for number in range(5)]
        kept.append(entry(f"gone/{counter}", counter, value))
        store.write(kept, [Place(ALICE.peer_id, f"gone/{counter - 1}")], [row(counter)])
        print(counter, flush=True)
"""


def test_a_kill_at_any_instant_leaves_whole_transactions(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    rng = random.Random(SEED)
    # The first rounds may be killed while they bring this former file to today's version.
    make_version_1(path, rows_of([entry("of a former version", 1)]))
    last = 0
    for kill in range(KILLS):
        told = write_until_killed(path, last, rng)
        found = last_transaction(path)
        assert last <= told <= found <= told + 1, f"kill {kill} of SEED={SEED}"
        last = found
    assert last > 0
    assert [each.name for each in tmp_path.glob("*.damaged")] == []


def test_a_killed_node_writes_on_from_its_last_version(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    write_until_killed(path, 0, random.Random(SEED))
    with open_store(path) as store:
        store.write([entry("node", 10_000)], [], [])
    ledger = Ledger.open(path, AUTHOR, FOUNDER.public_key, "a new life")
    ledger.put("model/new", {})
    written = ledger.state.get(ledger.me, "model/new")
    assert written is not None
    assert written.version > entry("node", 10_000).version
    assert written.version.epoch == 1, "it remembers"
    ledger.close()


def write_until_killed(path: Path, last: int, rng: random.Random) -> int:
    """Let a process go on after transaction `last` and kill it at some instant. Returns the last it told."""
    room = rng.choice([50, 3000, 12_000])  # From entries that share a page to ones that take many.
    command = [sys.executable, "-c", WRITER, str(path), str(last), str(room)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "opens\n"
        told = [writer.stdout.readline() for _ in range(rng.choice([0, 0, 1, 20, 150]))]
        # Up to a few transactions long, and in step with none.
        for _ in range(rng.randrange(100_000)):
            pass
        writer.kill()
        told += writer.stdout.readlines()
    return max((int(line) for line in told if line.endswith("\n")), default=last)


def last_transaction(path: Path) -> int:
    """The only transaction of which anything is there, all of which is."""
    file = read_ledger_file(path)
    with open_store(path) as store:
        entries = [decode_entry_untrusted(encoded) for encoded in store.load()]
        assert [each.encoded for each in entries] == file.entries, "a reader sees what the next node will"
    assert all(each.is_signed_by_writer() for each in entries)
    values = {each.key: decode_value_untrusted(each.value) for each in entries}
    assert values.pop("of a former version") == {}, "what nobody touched stays"
    if not values:
        assert file.log == []
        return 0
    (number,) = {value["transaction"] for value in values.values()}
    assert set(values) == {f"gone/{number}", *(f"model/{each}" for each in range(5))}
    assert [each.counter for each in file.log] == list(range(number, max(0, number - len(file.log)), -1))
    assert len(file.log) >= min(number, 100)
    return int(number)
