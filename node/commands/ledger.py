"""`localai-node ledger ...`: look into the ledger's file of a home, whether or not a node runs there.

Only reads. A running node writes to its file a moment after it took something in.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from node.config import home_option
from node.errors import NodeError
from node.home import Home
from node.place import load_place

if TYPE_CHECKING:
    from ledger.store import LedgerFile
    from node.ledger_inspection import Contents

_LOG_LIMIT_DEFAULT = 50
"""Rows: a screen or two."""
_LOG_LIMIT_MAX = 10_000
"""All that are kept (`ledger/store_log.py`)."""

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for a program.")
_owner_option = click.option(
    "--owner", metavar="NODE", help="Of this node only: its name, its id, or the end of its id; or `swarm`."
)


@click.group(epilog="Example: localai-node ledger ls")
def ledger() -> None:
    """What this node's ledger holds, whether it proves itself, and what happened to it."""


@ledger.command(epilog="Example: localai-node ledger ls --owner desktop")
@_owner_option
@click.option("--deleted", is_flag=True, help="Deletions too, which are kept until nobody can need them.")
@_json_option
@home_option
def ls(*, home: Home, owner: str | None, deleted: bool, as_json: bool) -> None:
    """Every entry in a line: whose it is, its key, version and size, and the value's beginning."""
    from node import ledger_report as report
    from node.ledger_inspection import find_owner

    contents = _contents(_read(home))
    only = None if owner is None else find_owner(owner, contents)
    entries = [
        entry
        for entry in contents.entries
        if (deleted or not entry.deleted) and (only is None or entry.owner == only)
    ]
    if as_json:
        click.echo(report.as_json([report.entry_facts(entry, contents.names) for entry in entries]))
    else:
        click.echo(report.entry_table(entries, contents.labels))


@ledger.command(epilog="Example: localai-node ledger show model/qwen --owner desktop")
@click.argument("key")
@_owner_option
@_json_option
@home_option
def show(*, home: Home, key: str, owner: str | None, as_json: bool) -> None:
    """One entry whole: who wrote it and by what right, its version, its signature and its value.

    Without --owner, the entry of everybody who has that key.
    """
    from node import ledger_report as report
    from node.ledger_inspection import find_owner

    contents = _contents(_read(home))
    only = None if owner is None else find_owner(owner, contents)
    founder = _founder_public_key(home)
    found = [
        report.whole_facts(entry, contents.names, founder)
        for entry in contents.entries
        if entry.key == key and (only is None or entry.owner == only)
    ]
    if not found:
        raise NodeError(f"there is no entry {key!r}; `localai-node ledger ls --deleted` lists all there are")
    if as_json:
        click.echo(report.as_json(found))
    else:
        click.echo("\n\n".join(report.whole_text(facts, _date) for facts in found))


@ledger.command(epilog="Example: localai-node ledger verify")
@_json_option
@home_option
def verify(*, home: Home, as_json: bool) -> None:
    """Check every entry by itself, and print the digest of them all.

    Two machines with the same root hold the same. Exits 1 if an entry is wrong, and names it.
    """
    from node import ledger_report as report
    from node.ledger_inspection import verify as verify_entries

    file = _read(home)
    findings = verify_entries(file.entries, _founder_public_key(home))
    if as_json:
        click.echo(report.as_json(report.findings_facts(findings)))
    else:
        click.echo(report.findings_text(findings, _contents(file, says_what_it_left_out=False).labels))
    if findings.wrong:
        count = len(findings.wrong)
        raise NodeError("1 entry is wrong" if count == 1 else f"{count} entries are wrong")


@ledger.command(epilog="Example: localai-node ledger log --limit 20")
@click.option(
    "--limit",
    type=click.IntRange(1, _LOG_LIMIT_MAX),
    default=_LOG_LIMIT_DEFAULT,
    show_default=True,
    help="Rows to print.",
)
@_json_option
@home_option
def log(*, home: Home, limit: int, as_json: bool) -> None:
    """What came in and what did not, newest first: when, whose, from whom, and why it was refused."""
    from node import ledger_report as report

    file = _read(home, log_limit=limit)
    if as_json:
        click.echo(report.as_json([report.log_facts(row) for row in file.log]))
    else:
        labels = _contents(file, says_what_it_left_out=False).labels
        click.echo(report.log_table(file.log, labels, _date))


def _read(home: Home, log_limit: int = 0) -> LedgerFile:
    from ledger.store import read_ledger_file

    if not home.ledger_file.exists():
        raise NodeError(f"no ledger in {home.path}: a node makes one when it starts; or name another --home")
    return read_ledger_file(home.ledger_file, log_limit)


def _contents(file: LedgerFile, *, says_what_it_left_out: bool = True) -> Contents:
    from node.ledger_inspection import read_contents

    contents = read_contents(file.entries)
    if contents.unreadable and says_what_it_left_out:
        click.echo(
            f"left out what this version cannot read: {contents.unreadable}; "
            "`localai-node ledger verify` says more",
            err=True,
        )
    return contents


def _founder_public_key(home: Home) -> bytes | None:
    """The key that every credential goes back to, or None where no swarm was founded or joined."""
    place = load_place(home)
    return None if place is None else place.founder_public_key


def _date(unix_time: float) -> str:
    try:
        return datetime.fromtimestamp(unix_time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return "in an age that calendars do not reach"
