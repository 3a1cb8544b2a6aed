"""Whatever happens to the bytes on the disk: a node goes on, with what can be proved and nothing else."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from ledger.entry import decode_entry_untrusted
from ledger.errors import BadEntry, StoreError
from ledger.store import open_store, read_ledger_file
from node.home import Home
from node.place import found
from tests.ledger.stored_entries import entry, row, stored

ENTRIES = [entry(f"model/{number}", number, bytes(number * 37 % 700)) for number in range(1, 121)]
LARGE = entry("node", 500, bytes(16_000))
"""One that takes pages of its own."""
GENUINE = {each.encoded for each in (*ENTRIES, LARGE)}
AFTERWARDS = entry("written afterwards", 1000)
PAGE_SIZE = 4096


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a node that was stopped."""
    path = tmp_path_factory.mktemp("whole") / "ledger.sqlite"
    with open_store(path) as store:
        store.write([*ENTRIES, LARGE], [], [row(number, "took") for number in range(1, 300)])
    return path.read_bytes()


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """The file of a node that was killed, and its journal."""
    path = tmp_path_factory.mktemp("killed") / "ledger.sqlite"
    with open_store(path) as store:
        store.write(ENTRIES[:40], [], [row(1)])
    with open_store(path) as store:
        for number in range(40, 120):
            store.write([ENTRIES[number]], [], [row(number)])
        return path.read_bytes(), path.with_name("ledger.sqlite-wal").read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where nothing of a former try is left."""
    return tmp_path / "ledger.sqlite"


def proved(encodeds: list[bytes]) -> set[bytes]:
    """Those that a ledger would take."""
    genuine = set()
    for encoded in encodeds:
        try:
            if decode_entry_untrusted(encoded).is_signed_by_writer():
                genuine.add(encoded)
        except BadEntry:
            continue
    return genuine


def check_node_goes_on(path: Path, caplog: pytest.LogCaptureFixture) -> int:
    """Open the file, use it and open it again. Returns how many entries were still there."""
    caplog.clear()
    with suppress(StoreError):
        read_ledger_file(path)
    with open_store(path) as store:
        found = proved(store.load())
        assert found <= GENUINE
        has_begun_anew = store.write([AFTERWARDS], [], [row(1000)])
        # Found while it was written: what stood there before went aside with the rest.
        expected = {AFTERWARDS.encoded} if has_begun_anew else found | {AFTERWARDS.encoded}
    assert proved(stored(path)) == expected
    assert read_ledger_file(path).log[0] == row(1000)
    aside = path.with_name("ledger.sqlite.damaged")
    assert len(caplog.records) == aside.exists()
    for record in caplog.records:
        told = record.getMessage()
        assert "\n" not in told
        assert "damaged" in told
        assert f"moved to {aside}" in told
        assert "the peers refill it" in told
    return len(found)


def forget(path: Path) -> None:
    for each in path.parent.iterdir():
        each.unlink()


def check_each(
    path: Path, caplog: pytest.LogCaptureFixture, contents: list[tuple[bytes, bytes]]
) -> tuple[int, int]:
    """How many of `contents`, each a file and its journal, lost nothing, and how many were moved aside."""
    unharmed = aside = 0
    for content, journal in contents:
        forget(path)
        path.write_bytes(content)
        if journal:
            path.with_name("ledger.sqlite-wal").write_bytes(journal)
        unharmed += check_node_goes_on(path, caplog) == len(GENUINE)
        aside += path.with_name("ledger.sqlite.damaged").exists()
    return unharmed, aside


def flipped(content: bytes, position: int, bit: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1 << bit]) + content[position + 1 :]


def overwritten(content: bytes, start: int, filling: bytes) -> bytes:
    return (content[:start] + filling + content[start + len(filling) :])[: len(content)]


def test_a_whole_file_loses_nothing(path: Path, whole: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert check_each(path, caplog, [(whole, b"")]) == (1, 0)


SCHEMA_NUMBER_LOWEST = 63
"""The byte of the header whose change makes a file look like a newer version's, which no node touches."""


def test_a_flipped_bit_in_the_header_stops_no_node(
    path: Path, whole: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    positions = [position for position in range(100) if position != SCHEMA_NUMBER_LOWEST]
    contents = [(flipped(whole, position, position % 8), b"") for position in positions]
    unharmed, aside = check_each(path, caplog, contents)
    assert unharmed
    assert aside


def test_a_flipped_bit_anywhere_costs_at_most_the_file(
    path: Path, whole: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    rng = Random(1)
    contents = [(flipped(whole, rng.randrange(100, len(whole)), rng.randrange(8)), b"") for _ in range(120)]
    unharmed, aside = check_each(path, caplog, contents)
    assert unharmed < 120
    assert 0 < aside < 60, "most of them are in some entry, and cost that one"


def test_a_schema_that_is_no_text_stops_no_node(
    path: Path, whole: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite quotes it in its message, which Python then cannot read."""
    position = whole.index(b"TABLE log") + 2
    assert check_each(path, caplog, [(overwritten(whole, position, b"\xe8"), b"")]) == (0, 1)


def test_a_file_that_was_cut_is_moved_aside(
    path: Path, whole: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    rng = Random(2)
    lengths = [0, 1, 15, 16, 99, 100, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, len(whole) - PAGE_SIZE]
    lengths += [rng.randrange(len(whole)) for _ in range(30)]
    unharmed, aside = check_each(path, caplog, [(whole[:length], b"") for length in lengths])
    assert unharmed == 0
    assert aside == len(lengths) - 2, "a file of a byte or none is a new one"


@pytest.mark.parametrize("filling", [bytes(PAGE_SIZE), b"\xff" * PAGE_SIZE, Random(3).randbytes(PAGE_SIZE)])
def test_a_lost_page_is_found(
    path: Path, whole: bytes, caplog: pytest.LogCaptureFixture, filling: bytes
) -> None:
    starts = range(0, len(whole), PAGE_SIZE)
    contents = [(overwritten(whole, start, filling), b"") for start in starts]
    unharmed, aside = check_each(path, caplog, contents)
    assert unharmed <= len(contents) // 4, "pages of the log"
    assert aside > len(contents) // 2


def test_pages_in_each_others_place_are_found(
    path: Path, whole: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    rng = Random(4)
    contents = []
    for _ in range(40):
        one, other = (PAGE_SIZE * rng.randrange(1, len(whole) // PAGE_SIZE) for _ in range(2))
        swapped = overwritten(whole, one, whole[other : other + PAGE_SIZE])
        contents.append((overwritten(swapped, other, whole[one : one + PAGE_SIZE]), b""))
    check_each(path, caplog, contents)


def test_a_journal_that_is_garbage_costs_at_most_what_was_in_it(
    path: Path, killed: tuple[bytes, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    content, journal = killed
    rng = Random(5)
    garbage = [rng.randbytes(size) for size in (1, 31, 32, 4152, 50_000)]
    cut = [journal[: rng.randrange(len(journal))] for _ in range(30)]
    broken = [flipped(journal, rng.randrange(len(journal)), rng.randrange(8)) for _ in range(40)]
    zeroed = [overwritten(journal, rng.randrange(len(journal)), bytes(PAGE_SIZE)) for _ in range(30)]
    for each in (journal, *garbage, *cut, *broken, *zeroed):
        forget(path)
        path.write_bytes(content)
        path.with_name("ledger.sqlite-wal").write_bytes(each)
        assert check_node_goes_on(path, caplog) >= 40
        assert not path.with_name("ledger.sqlite.damaged").exists()


def test_a_journal_of_another_file_stops_no_node(
    path: Path, whole: bytes, killed: tuple[bytes, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    check_each(path, caplog, [(whole, killed[1]), (b"", killed[1]), (b"garbage" * 1000, killed[1])])


def test_garbage_in_shared_memory_harms_nothing(
    path: Path, killed: tuple[bytes, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    for garbage in (b"", b"\xff" * 32_768, Random(6).randbytes(32_768)):
        forget(path)
        path.write_bytes(killed[0])
        path.with_name("ledger.sqlite-wal").write_bytes(killed[1])
        path.with_name("ledger.sqlite-shm").write_bytes(garbage)
        assert check_node_goes_on(path, caplog) == len(ENTRIES)


@pytest.mark.parametrize("garbage", [b"not a database at all" * 500, b"SQLite format 3\0" + bytes(5000)])
def test_a_file_that_is_no_database_is_kept_aside_as_it_was(
    path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(garbage)
    assert check_node_goes_on(path, caplog) == 0
    assert path.with_name("ledger.sqlite.damaged").read_bytes() == garbage


def test_of_files_moved_aside_the_last_is_kept(path: Path) -> None:
    aside = path.with_name("ledger.sqlite.damaged")
    path.with_name("ledger.sqlite.damaged-wal").write_bytes(b"of an older one")
    for garbage in (b"first" * 1000, b"second" * 1000):
        path.write_bytes(garbage)
        assert stored(path) == []
        assert aside.read_bytes() == garbage
    assert sorted(each.name for each in path.parent.iterdir()) == ["ledger.sqlite", "ledger.sqlite.damaged"]


def test_a_file_that_is_cut_while_a_node_runs_is_begun_anew(
    path: Path, whole: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(whole)
    with open_store(path) as store:
        path.write_bytes(whole[: len(whole) // 2])
        assert store.write([AFTERWARDS], [], [row(1000)])
        assert not store.write([AFTERWARDS], [], [])
        assert store.load() == [AFTERWARDS.encoded]
    assert stored(path) == [AFTERWARDS.encoded]
    assert len(caplog.records) == 1


def test_a_file_that_is_damaged_before_it_is_read_is_an_empty_one(path: Path, whole: bytes) -> None:
    path.write_bytes(whole)
    with open_store(path) as store:
        path.write_bytes(b"not a database at all" * 5000)
        assert store.load() == []
        store.write([AFTERWARDS], [], [])
    assert stored(path) == [AFTERWARDS.encoded]


def test_keys_and_settings_are_no_business_of_a_damaged_ledger(
    tmp_path: Path, whole: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    home = Home(tmp_path / "home")
    home.create()
    found(home)
    home.config_file.write_text('name = "attic"\n')
    home.hashes.mkdir()
    (home.hashes / "5f0c").write_bytes(b"what is known of a file")
    (home.models / "tiny.gguf").write_bytes(b"GGUF")

    def others() -> dict[Path, tuple[bytes, int, int]]:
        """What is in the home beside the ledger: contents, rights and times."""
        files = [each for each in home.path.rglob("*") if each.is_file() and "ledger" not in each.name]
        return {file: (file.read_bytes(), (stat := file.stat()).st_mode, stat.st_mtime_ns) for file in files}

    before = others()
    assert {file.name for file in before} >= {"node.key", "founder.key", "swarm.msgpack", "config.toml"}
    for content in (b"garbage" * 1000, whole[: len(whole) // 2], overwritten(whole, 4096, bytes(8192))):
        home.ledger_file.write_bytes(content)
        check_node_goes_on(home.ledger_file, caplog)
        assert others() == before
        home.ledger_file.with_name("ledger.sqlite.damaged").unlink(missing_ok=True)
