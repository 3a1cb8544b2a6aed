"""What `localai-node ledger` prints: entries, one entry, findings and the log, as text and as JSON.

Pure: what was read comes in, text or what JSON can say goes out. All that other machines
wrote is escaped, so that no name or key moves the cursor of whoever reads it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from ledger.entry import SWARM, Entry, Scope
from ledger.store import LogRow
from node.ledger_inspection import Findings, escaped, label_of
from p2p.credential import NEVER, Credential
from p2p.errors import NotAdmitted, NotMsgpack
from p2p.peer import PeerId
from p2p.unpack import unpack_untrusted

Names: TypeAlias = Mapping[PeerId, str]
"""What nodes call themselves, whatever that is: for programs."""
Labels: TypeAlias = Mapping[PeerId, str]
"""What they are called here: for people."""

_SUMMARY_LENGTH_MAX = 72
"""Characters: what is left of a wide terminal."""
_DEPTH_MAX = 32
"""Of maps and lists. No record goes deeper than a few, and a stack has an end."""


def as_json(value: object) -> str:
    """`value` as JSON in ASCII, so that it is safe on a terminal too."""
    return json.dumps(value, indent=2).replace("\x7f", "\\u007f")


def value_of(entry: Entry) -> Any:  # noqa: ANN401 (whatever its writer put there)
    """The value of `entry` as far as JSON can say it: bytes as hex, what is no msgpack as well."""
    if entry.deleted:
        return None
    try:
        return _plain(unpack_untrusted(entry.value, strict_map_key=False), _DEPTH_MAX)
    except NotMsgpack:
        return entry.value.hex()


def entry_facts(entry: Entry, names: Names) -> dict[str, Any]:
    """One line of `ls`, for a program."""
    return {
        "owner": entry.owner,
        "owner_name": names.get(entry.owner),
        "scope": entry.scope.name.lower(),
        "key": entry.key,
        "version": {"epoch": entry.version.epoch, "counter": entry.version.counter},
        "size_bytes": len(entry.encoded),
        "deleted": entry.deleted,
        "summary": summary(entry),
    }


def entry_table(entries: Iterable[Entry], labels: Labels) -> str:
    """`ls`: one line per entry."""
    rows: list[Sequence[str]] = [("OWNER", "KEY", "VERSION", "BYTES", "VALUE")]
    rows += [
        (
            label_of(entry.owner, labels),
            entry.key,
            version_text(entry.owner, entry.version.epoch, entry.version.counter),
            str(len(entry.encoded)),
            summary(entry),
        )
        for entry in entries
    ]
    return _columns(rows)


def summary(entry: Entry) -> str:
    """The value in a line, what is short first."""
    if entry.deleted:
        return "(deleted)"
    value = value_of(entry)
    if not isinstance(value, dict):
        return _shortened(f"(no map) {value}")
    fields = sorted(value.items(), key=lambda field: isinstance(field[1], dict | list))
    return _shortened(" ".join(f"{key}={_compact(each)}" for key, each in fields))


def whole_facts(entry: Entry, names: Names, founder_public_key: bytes | None) -> dict[str, Any]:
    """Everything about one entry, for a program."""
    facts = entry_facts(entry, names)
    del facts["summary"]
    return facts | {
        "writer": entry.writer,
        "writer_name": names.get(entry.writer),
        "digest": entry.digest.hex(),
        "signature_valid": entry.is_signed_by_writer(),
        "credential": _credential_facts(entry, founder_public_key),
        "value": value_of(entry),
    }


def whole_text(facts: Mapping[str, Any], when: Callable[[int], str]) -> str:
    """`whole_facts` for a person. `when` tells when an invite expires."""
    version = facts["version"]
    lines = [
        f"key         {facts['key']}",
        f"owner       {_named(facts['owner'], facts['owner_name'])}",
        f"writer      {_named(facts['writer'], facts['writer_name'])}",
        f"version     {version_text(facts['owner'], version['epoch'], version['counter'])}",
        f"size        {facts['size_bytes']} bytes",
        f"digest      {facts['digest']}",
        f"signature   {'valid' if facts['signature_valid'] else 'NOT VALID: its writer did not write this'}",
        f"credential  {_credential_text(facts['credential'], when)}",
    ]
    if facts["deleted"]:
        lines.append("value       (deleted)")
    else:
        lines += ["value", *json.dumps(facts["value"], indent=2, ensure_ascii=False).splitlines()]
    return "\n".join(escaped(line) for line in lines)


def findings_facts(findings: Findings) -> dict[str, Any]:
    """What `verify` found, for a program."""
    return {
        "root": findings.root_digest.hex(),
        "entries": findings.entries,
        "deletions": findings.deletions,
        "owners": findings.owners,
        "size_bytes": findings.size_bytes,
        "superseded": findings.superseded,
        "of_former_format": findings.of_former_format,
        "credentials_checked": findings.is_membership_proved,
        "wrong": [{"owner": one.owner, "key": one.key, "reason": one.reason} for one in findings.wrong],
    }


def findings_text(findings: Findings, labels: Labels) -> str:
    """What `verify` found, for a person: the root can be compared by eye."""
    proved = "signatures and credentials" if findings.is_membership_proved else "signatures"
    lines = [
        f"entries   {findings.entries}, {findings.deletions} of them deletions",
        f"owners    {findings.owners}",
        f"size      {findings.size_bytes} bytes",
        f"root      {findings.root_digest.hex()}",
        f"checked   {proved}, sizes and room",
    ]
    if not findings.is_membership_proved:
        lines.append("          not who may write: this home is in no swarm, whose founder's key would tell")
    if findings.superseded:
        lines.append(f"old       {findings.superseded} that something newer replaces")
    if findings.of_former_format:
        lines.append(f"old       {findings.of_former_format} in the format of the first release, not used")
    for one in findings.wrong:
        whose = f"{label_of(one.owner, labels)}  " if one.owner is not None else ""
        lines.append(f"wrong     {whose}{one.key}: {one.reason}")
    return "\n".join(escaped(line) for line in lines)


def log_facts(row: LogRow) -> dict[str, Any]:
    """One row of the log, for a program."""
    return {
        "unix_time": row.unix_time,
        "what": row.what,
        "owner": row.owner,
        "key": row.key,
        "version": {"epoch": row.epoch, "counter": row.counter},
        "source": row.source or None,
        "reason": row.reason or None,
    }


def log_table(rows: Iterable[LogRow], labels: Labels, when: Callable[[float], str]) -> str:
    """The log, newest first. `when` tells a row's time."""
    table: list[Sequence[str]] = [("TIME", "WHAT", "OWNER", "KEY", "VERSION", "FROM", "WHY")]
    table += [
        (
            when(row.unix_time),
            row.what,
            label_of(row.owner, labels),
            row.key or "-",
            version_text(row.owner, row.epoch, row.counter) if row.owner else "-",
            label_of(row.source, labels),
            row.reason.replace("_", " "),
        )
        for row in rows
    ]
    return _columns(table)


def version_text(owner: str, epoch: int, counter: int) -> str:
    """A version. The counter of a swarm-wide entry is the start of its writer's key: nothing to read."""
    return str(epoch) if owner == SWARM else f"{epoch}.{counter}"


def _credential_facts(entry: Entry, founder_public_key: bytes | None) -> dict[str, Any]:
    """What gives the writer its right; `valid` is None where nobody can tell."""
    try:
        credential = entry.credential()
        if founder_public_key is None:
            return _links_facts(credential) | {"valid": None, "reason": None}
        grant = credential.verify_member(founder_public_key, entry.writer)
        if entry.scope is Scope.SWARM and grant.role != "admin":
            raise NotAdmitted(f"role {grant.role} may not write for the whole swarm")
    except NotAdmitted as error:
        return {"valid": False, "reason": str(error), "role": None, "invites": [], "expires_at": None}
    return _links_facts(credential) | {"valid": True, "reason": None}


def _links_facts(credential: Credential) -> dict[str, Any]:
    last = credential.links[-1]
    return {
        "role": last.role,
        "invites": [link.id for link in credential.links],
        "expires_at": None if last.expires_at == NEVER else last.expires_at,
    }


def _credential_text(facts: Mapping[str, Any], when: Callable[[int], str]) -> str:
    if facts["valid"] is False:
        return f"NOT VALID: {facts['reason']}"
    expires_at = facts["expires_at"]
    ends = "never expires" if expires_at is None else f"lets connect until {when(expires_at)}"
    judged = "valid" if facts["valid"] else "not checked, this home is in no swarm"
    return f"{judged}; {facts['role']} by invite {' > '.join(facts['invites'])}, {ends}"


def _named(peer: str, name: str | None) -> str:
    return f"{name}  {peer}" if name else peer


def _plain(value: object, depth: int) -> Any:  # noqa: ANN401 (what JSON can say)
    match value:
        case _ if depth == 0:
            return "..."
        case bytes():
            return value.hex()
        case dict():
            return {
                key if isinstance(key, str) else repr(_plain(key, depth - 1)): _plain(each, depth - 1)
                for key, each in value.items()
            }
        case list() | tuple():
            return [_plain(each, depth - 1) for each in value]
        case float() if not math.isfinite(value):
            return str(value)
        case None | bool() | int() | float() | str():
            return value
        case _:
            return repr(value)


def _compact(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _shortened(text: str) -> str:
    text = escaped(text)
    return text if len(text) <= _SUMMARY_LENGTH_MAX else f"{text[: _SUMMARY_LENGTH_MAX - 3]}..."


def _columns(rows: Sequence[Sequence[str]]) -> str:
    cells = [[escaped(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )
