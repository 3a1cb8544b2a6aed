"""A file of a former version is brought to this one's, whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ledger.entry import decode_entry_untrusted
from ledger.errors import UnknownFormat
from ledger.store import open_store, read_ledger_file
from tests.ledger.stored_entries import IN_FORMAT_1, entry, make_version_1, row, rows_of, stored
from tests.p2p.people import ALICE

ROOT = Path(__file__).parents[2]
ENTRIES = [entry(f"model/{number}", number) for number in range(1, 40)]

DIES_BEFORE_THE_END = """
import os, sys
from pathlib import Path
import ledger.store_schema
from ledger.store import open_store

ledger.store_schema._sign_version = lambda connection: os._exit(9)
open_store(Path(sys.argv[1]))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_a_file_of_version_1_keeps_its_entries_and_gets_a_log(path: Path) -> None:
    make_version_1(path, rows_of(ENTRIES))
    with open_store(path) as store:
        assert sorted(store.load()) == sorted(each.encoded for each in ENTRIES)
        store.write([], [], [row(1)])
    file = read_ledger_file(path)
    assert file.schema_version == 2
    assert file.log == [row(1)]
    assert len(file.entries) == len(ENTRIES)


def test_a_file_of_version_1_can_be_read_and_stays_one(path: Path) -> None:
    make_version_1(path, rows_of(ENTRIES))
    before = path.read_bytes()
    file = read_ledger_file(path)
    assert (file.schema_version, len(file.entries), file.log) == (1, len(ENTRIES), [])
    assert path.read_bytes() == before


def test_an_entry_in_a_former_format_is_loaded_as_it_is_and_proves_nothing(path: Path) -> None:
    make_version_1(path, [(ALICE.peer_id, "node", IN_FORMAT_1)])
    assert stored(path) == [IN_FORMAT_1]
    with pytest.raises(UnknownFormat):
        decode_entry_untrusted(IN_FORMAT_1)


def test_a_new_entry_takes_the_place_of_one_in_a_former_format(path: Path) -> None:
    make_version_1(path, [(ALICE.peer_id, "node", IN_FORMAT_1)])
    with open_store(path) as store:
        store.write([entry("node", 1)], [], [])
    assert stored(path) == [entry("node", 1).encoded]


@pytest.mark.parametrize("is_new", [True, False])
def test_a_process_that_dies_in_the_middle_leaves_a_file_that_opens(path: Path, is_new: bool) -> None:
    if not is_new:
        make_version_1(path, rows_of(ENTRIES))
    done = subprocess.run(
        [sys.executable, "-c", DIES_BEFORE_THE_END, str(path)], cwd=ROOT, timeout=60, check=False
    )
    assert done.returncode == 9
    assert read_ledger_file(path).schema_version == (0 if is_new else 1)
    assert len(stored(path)) == (0 if is_new else len(ENTRIES))
    assert read_ledger_file(path).schema_version == 2
    assert not path.with_name("ledger.sqlite.damaged").exists()
