"""`localai-node ledger` shows what is in the file, whether a node runs or not, and trusts nothing in it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from ledger.entry import SWARM, Author, Entry, sign_entry
from ledger.store import LogRow, open_store
from ledger.version import Version
from node.cli import main
from node.home import Home
from node.place import found
from p2p.peer import PeerId
from tests.ledger.stored_entries import IN_FORMAT_1, make_version_1
from tests.node.household import (
    HOUSEHOLD,
    HOUSEHOLD_LOG,
    alias,
    altered,
    model,
    node,
    of_another_swarm,
    root_of,
    says,
)
from tests.p2p.people import ALICE, BOB, CAROL, DAVE, FOUNDER, invite

ROOT = Path(__file__).parents[2]
HEAVY = {"libp2p", "llama_cpp", "fastapi", "hypercorn", "trio", "httpx", "pydantic", "structlog"}


class Told(NamedTuple):
    """How a command ended."""

    exit_code: int
    out: str
    err: str

    @property
    def lines(self) -> list[list[str]]:
        """The words of each line."""
        return [line.split() for line in self.out.splitlines()]


Run = Callable[..., Told]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """One that is in a swarm."""
    home = Home(tmp_path / "home")
    home.create()
    FOUNDER.save(home.founder_key)
    assert found(home).founder_public_key == FOUNDER.public_key
    return home


@pytest.fixture
def run(home: Home, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str, home: Home = home) -> Told:
        capsys.readouterr()
        return Told(main(["ledger", *arguments, "--home", str(home.path)]), *capsys.readouterr())

    return run


def keep(home: Home, entries: list[Entry], log: list[LogRow] | None = None) -> None:
    with open_store(home.ledger_file) as store:
        store.write(entries, [], log or [])


def keep_bytes(home: Home, encodeds: list[bytes]) -> None:
    """Put something into the file that no ledger would."""
    with open_store(home.ledger_file) as store:
        rows = [(f"owner {number}", "key", encoded) for number, encoded in enumerate(encodeds)]
        store._connection.executemany("INSERT INTO entries VALUES (?, ?, ?)", rows)


def test_ls_tells_each_entry_in_a_line(run: Run, home: Home) -> None:
    keep(home, HOUSEHOLD)
    told = run("ls")
    assert (told.exit_code, told.err) == (0, "")
    assert [line[:3] for line in told.lines] == [
        ["OWNER", "KEY", "VERSION"],
        ["swarm", "alias/gpt-4", "7"],
        ["attic", "model/tiny", "1.2"],
        ["attic", "node", "1.1"],
        ["cellar", "node", "1.1"],
    ]
    assert "name=attic presence=here role=worker" in told.out


def test_ls_tells_deletions_when_asked(run: Run, home: Home) -> None:
    keep(home, HOUSEHOLD)
    assert "model/old" not in run("ls").out
    told = run("ls", "--deleted", "--owner", "attic")
    assert [line[1] for line in told.lines[1:]] == ["model/old", "model/tiny", "node"]
    assert told.lines[1][-1] == "(deleted)"


def test_ls_tells_a_program_everything(run: Run, home: Home) -> None:
    keep(home, HOUSEHOLD)
    told = json.loads(run("ls", "--json", "--deleted").out)
    assert len(told) == len(HOUSEHOLD)
    (deletion,) = (entry for entry in told if entry["deleted"])
    assert deletion == {
        "owner": ALICE.peer_id,
        "owner_name": "attic",
        "scope": "own",
        "key": "model/old",
        "version": {"epoch": 1, "counter": 3},
        "size_bytes": len(HOUSEHOLD[2].encoded),
        "deleted": True,
        "summary": "(deleted)",
    }


@pytest.mark.parametrize(
    "owner", ["cellar", BOB.peer_id, BOB.peer_id[-7:], BOB.peer_id[-6:], f"...{BOB.peer_id[-6:]}"]
)
def test_an_owner_is_meant_by_name_id_or_end_of_id(run: Run, home: Home, owner: str) -> None:
    keep(home, HOUSEHOLD)
    assert [entry["owner"] for entry in json.loads(run("ls", "--json", "--owner", owner).out)] == [
        BOB.peer_id
    ]


def test_two_nodes_of_one_name_are_told_apart(run: Run, home: Home) -> None:
    keep(home, [node(ALICE, "laptop"), node(BOB, "laptop")])
    told = run("ls", "--owner", "laptop")
    assert told.exit_code == 2
    assert told.out == ""
    ends = sorted(f"laptop ...{one.peer_id[-6:]}" for one in (ALICE, BOB))
    assert told.err == f"localai-node: 'laptop' may be any of {ends[0]}, {ends[1]}: give more of the id\n"
    assert json.loads(run("ls", "--json", "--owner", ends[0]).out)[0]["owner_name"] == "laptop"


@pytest.mark.parametrize("owner", ["kitchen", "", "..."])
def test_an_owner_that_is_nobody_is_wrong_use(run: Run, home: Home, owner: str) -> None:
    keep(home, HOUSEHOLD)
    for command in (["ls"], ["show", "node"]):
        told = run(*command, "--owner", owner)
        assert told.exit_code == 2
        assert told.err.endswith("there are: attic, cellar, swarm\n")


def test_show_tells_who_wrote_it_and_by_what_right(run: Run, home: Home) -> None:
    keep(home, HOUSEHOLD)
    told = run("show", "alias/gpt-4")
    (link,) = invite("admin").links
    assert told.exit_code == 0
    assert told.out.splitlines()[:4] == [
        "key         alias/gpt-4",
        f"owner       swarm  {SWARM}",
        f"writer      attic  {ALICE.peer_id}",
        "version     7",
    ]
    assert "signature   valid" in told.out
    assert f"credential  valid; admin by invite {link.id}, never expires" in told.out
    assert json.loads(told.out.partition("\nvalue\n")[2]) == {"model": "tiny"}


def test_show_tells_the_entry_of_everybody_who_has_that_key(run: Run, home: Home) -> None:
    keep(home, HOUSEHOLD)
    told = json.loads(run("show", "node", "--json").out)
    assert [entry["value"]["name"] for entry in told] == ["attic", "cellar"]
    (only,) = json.loads(run("show", "node", "--json", "--owner", "cellar").out)
    assert only["writer_name"] == "cellar"
    assert only["signature_valid"] is True
    assert (only["credential"]["valid"], only["credential"]["role"]) == (True, "worker")


def test_a_deletion_is_shown_as_one(run: Run, home: Home) -> None:
    keep(home, HOUSEHOLD)
    assert run("show", "model/old").lines[-1] == ["value", "(deleted)"]


def test_a_key_that_is_not_there_is_one_line(run: Run, home: Home) -> None:
    keep(home, HOUSEHOLD)
    told = run("show", "model/gpt\x1b")
    assert (told.exit_code, told.out) == (1, "")
    assert told.err.startswith("localai-node: there is no entry 'model/gpt\\x1b'")


def test_an_invite_that_ends_says_when(run: Run, home: Home) -> None:
    credential = invite(expires_at=2_000_000_000).credential_for(BOB.peer_id)
    keep(home, [sign_entry(Author(BOB, credential), "node", Version(1, 1), b"\x80")])
    assert "lets connect until 2033-05-18T03:33:20Z" in run("show", "node").out


def test_what_proves_nothing_is_shown_as_that(run: Run, home: Home) -> None:
    keep(home, [of_another_swarm("a"), alias(BOB, "worker")])
    keep_bytes(home, [altered(node(CAROL, "cellar"))])
    assert "signature   NOT VALID" in run("show", "node").out
    assert "credential  NOT VALID: the invite is not from this swarm's founder" in run("show", "a").out
    assert "credential  NOT VALID: role worker may not write" in run("show", "alias/gpt-4").out


def test_without_a_swarm_rights_are_not_judged(run: Run, home: Home) -> None:
    keep(home, HOUSEHOLD)
    home.swarm_file.unlink()
    assert "credential  not checked, this home is in no swarm; worker by" in run("show", "node").out
    told = run("verify")
    assert told.exit_code == 0
    assert "checked   signatures, sizes and room" in told.out


def test_verify_tells_the_root_that_running_nodes_compare(run: Run, home: Home) -> None:
    keep(home, HOUSEHOLD)
    told = run("verify")
    assert (told.exit_code, told.err) == (0, "")
    assert told.lines[0] == ["entries", "5,", "1", "of", "them", "deletions"]
    assert told.lines[3] == ["root", root_of(HOUSEHOLD)]
    assert "signatures and credentials" in told.out


def test_verify_names_what_is_wrong_and_fails(run: Run, home: Home) -> None:
    keep(home, [node(BOB, "cellar"), of_another_swarm()])
    keep_bytes(home, [altered(says(BOB, "model/x", {"name": "cellar"})), b""])
    told = run("verify")
    assert told.exit_code == 1
    assert told.err == "localai-node: 3 entries are wrong\n"
    wrong = [line.split(maxsplit=1)[1] for line in told.out.splitlines() if line.startswith("wrong")]
    assert sorted(wrong) == [
        f"...{DAVE.peer_id[-6:]}  node: not a member",
        "cellar  model/x: bad signature",
        "entry 4 of the file: an empty entry",
    ]


def test_verify_tells_a_program_the_same(run: Run, home: Home) -> None:
    keep(home, [node(BOB, "cellar"), of_another_swarm()])
    told = run("verify", "--json")
    assert told.exit_code == 1
    facts = json.loads(told.out)
    assert facts["wrong"] == [{"owner": DAVE.peer_id, "key": "node", "reason": "not a member"}]
    assert (facts["entries"], facts["owners"], facts["root"]) == (1, 1, root_of([node(BOB, "cellar")]))


def test_of_two_in_one_place_the_one_that_stands_is_shown(run: Run, home: Home) -> None:
    keep(home, [says(BOB, "a", {"is": "new"}, 2)])
    keep_bytes(home, [says(BOB, "a", {"is": "old"}, 1).encoded])
    assert json.loads(run("show", "a", "--json").out)[0]["value"] == {"is": "new"}
    told = run("verify")
    assert told.exit_code == 0
    assert "old       1 that something newer replaces" in told.out


def test_log_tells_the_newest_first(run: Run, home: Home) -> None:
    keep(home, HOUSEHOLD, HOUSEHOLD_LOG)
    told = run("log")
    assert told.exit_code == 0
    nobody = f"...{CAROL.peer_id[-6:]}"
    assert told.lines[1:] == [
        ["2023-11-14T22:13:23Z", "took", "swarm", "alias/gpt-4", "7", "cellar"],
        ["2023-11-14T22:13:22Z", "refused", nobody, "model/x", "1.9", "cellar", "bad", "signature"],
        ["2023-11-14T22:13:21Z", "took", "cellar", "node", "1.1", "cellar"],
        ["2023-11-14T22:13:20Z", "wrote", "attic", "node", "1.1", "-"],
    ]
    assert run("log", "--limit", "2").lines == told.lines[:3]
    assert run("log", "--limit", "0").exit_code == 2


def test_what_could_not_be_read_is_in_the_log_without_a_name(run: Run, home: Home) -> None:
    keep(home, HOUSEHOLD, [LogRow(0.0, "refused", PeerId(""), "", 0, 0, BOB.peer_id, "unknown_format")])
    assert run("log").lines[1][1:] == ["refused", "-", "-", "-", "cellar", "unknown", "format"]


def test_log_tells_a_program_everything(run: Run, home: Home) -> None:
    keep(home, HOUSEHOLD, HOUSEHOLD_LOG)
    assert json.loads(run("log", "--json").out)[1] == {
        "unix_time": 1_700_000_002.0,
        "what": "refused",
        "owner": CAROL.peer_id,
        "key": "model/x",
        "version": {"epoch": 1, "counter": 9},
        "source": BOB.peer_id,
        "reason": "bad_signature",
    }


COMMANDS = (["ls", "--deleted"], ["show", "\x1b[2J\x07"], ["verify"], ["log"])


@pytest.mark.parametrize("flags", [[], ["--json"]])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_nothing_that_others_wrote_moves_the_cursor(
    run: Run, home: Home, command: list[str], flags: list[str]
) -> None:
    bad = "\x1b[2J\x07\r\n\x7f\x9b\u202e\u2028"
    hostile = [node(BOB, bad), says(BOB, "\x1b[2J\x07", {bad: [bad], "x": {"y": bad}}), says(BOB, bad, None)]
    keep(home, [*hostile, says(BOB, bad * 20, {bad: bad}), of_another_swarm(bad)])
    keep(home, [], [LogRow(1e300, "refused", BOB.peer_id, bad, 1, 1, bad, bad)])
    told = run(*command, *flags)
    assert "1b" in told.out
    assert all(character.isprintable() or character == "\n" for character in told.out + told.err)
    assert not flags or json.loads(told.out)


@contextmanager
def a_node_in(home: Home) -> Iterator[None]:
    """What a running node does to its home, as far as its file goes."""
    with home.lock(), open_store(home.ledger_file) as store:
        store.write(HOUSEHOLD, [], HOUSEHOLD_LOG)
        yield
        store.write([model(ALICE, "after")], [], [])


def test_all_of_it_works_while_a_node_runs(run: Run, home: Home) -> None:
    with a_node_in(home):
        for command in (["ls"], ["show", "node"], ["verify"], ["log"]):
            assert run(*command).exit_code == 0
        assert len(run("ls").lines) == 5
    assert len(run("ls").lines) == 6


def test_looking_changes_nothing(run: Run, home: Home) -> None:
    keep(home, HOUSEHOLD, HOUSEHOLD_LOG)

    def everything() -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in home.path.rglob("*") if file.is_file()}

    before = everything()
    for command in (["ls"], ["show", "node"], ["verify"], ["log"]):
        assert run(*command).exit_code == 0
    assert everything() == before


def test_the_file_of_a_former_version_can_be_looked_into(run: Run, home: Home) -> None:
    make_version_1(home.ledger_file, [("someone", "node", IN_FORMAT_1)])
    told = run("ls")
    assert told.exit_code == 0
    assert told.err == ("left out what this version cannot read: 1; `localai-node ledger verify` says more\n")
    verified = run("verify")
    assert verified.exit_code == 0
    assert "old       1 in the format of the first release, not used" in verified.out
    assert run("log").lines[1:] == []


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\0" + bytes(5000)])
def test_a_damaged_file_is_one_line_and_stays_where_it_is(run: Run, home: Home, content: bytes) -> None:
    home.ledger_file.write_bytes(content)
    told = run("verify")
    assert told.exit_code == 1
    assert told.err.count("\n") == 1
    assert "ledger.sqlite is damaged" in told.err
    assert home.ledger_file.read_bytes() == content


def test_a_home_without_a_ledger_is_one_line_and_is_not_made(run: Run, tmp_path: Path) -> None:
    nowhere = Home(tmp_path / "mistyped")
    for command in (["ls"], ["show", "node"], ["verify"], ["log"]):
        told = run(*command, home=nowhere)
        assert (told.exit_code, told.out) == (1, "")
        assert told.err.startswith(f"localai-node: no ledger in {nowhere.path}")
    assert not nowhere.path.exists()


THEN_TELL_WHAT_WAS_IMPORTED = """
import json, sys
from node.cli import main
for command in (["ls"], ["show", "node"], ["verify"], ["log"]):
    assert main(["ledger", *command, "--home", sys.argv[1]]) == 0
print(json.dumps(list(sys.modules)))
"""


def test_nothing_heavy_is_imported(home: Home) -> None:
    keep(home, HOUSEHOLD, HOUSEHOLD_LOG)
    done = subprocess.run(
        [sys.executable, "-c", THEN_TELL_WHAT_WAS_IMPORTED, str(home.path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout.splitlines()[-1])) & HEAVY == set()
