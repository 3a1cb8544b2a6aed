"""Entries are judged as a ledger judges them, and shown whatever is in them."""

from __future__ import annotations

import json

import pytest

from ledger.entry import SWARM, Entry, sign_entry
from ledger.version import Version
from node.errors import WrongUse
from node.ledger_inspection import Wrong, find_owner, read_contents, verify
from node.ledger_report import as_json, entry_table, summary, value_of, whole_facts, whole_text
from tests.node.household import HOUSEHOLD, alias, altered, author, node, of_another_swarm, root_of, says
from tests.p2p.people import ALICE, BOB, CAROL, DAVE, FOUNDER, identity


def encoded(*entries: Entry) -> list[bytes]:
    return [entry.encoded for entry in entries]


def test_each_entry_that_no_ledger_would_take_is_found() -> None:
    forged = altered(says(BOB, "model/x", {"name": "cellar"}))
    stranger, usurper = of_another_swarm(), alias(BOB, "worker")
    large = says(BOB, "k" * 161, {})
    good = node(BOB, "cellar")
    file = [*encoded(good, stranger, usurper, large), forged, b"", b"\x02 neither head nor tail"]
    findings = verify(file, FOUNDER.public_key)
    assert findings.wrong == [
        Wrong(DAVE.peer_id, "node", "not a member"),
        Wrong(SWARM, "alias/gpt-4", "not the owner"),
        Wrong(BOB.peer_id, "k" * 161, "too large"),
        Wrong(BOB.peer_id, "model/x", "bad signature"),
        Wrong(None, "entry 6 of the file", "an empty entry"),
        Wrong(None, "entry 7 of the file", "an entry of only 23 bytes"),
    ]
    assert findings.root_digest.hex() == root_of([good])
    assert (findings.entries, findings.owners, findings.size_bytes) == (1, 1, len(good.encoded))


def test_a_node_that_left_is_still_called_by_its_name() -> None:
    contents = read_contents(encoded(says(BOB, "leave", {"name": "cellar"})))
    assert find_owner("cellar", contents) == BOB.peer_id


def test_two_files_have_one_root_exactly_if_the_same_stands_in_them() -> None:
    files = encoded(*HOUSEHOLD), encoded(*HOUSEHOLD)[::-1], encoded(*HOUSEHOLD[1:])
    roots = [verify(file, FOUNDER.public_key).root_digest.hex() for file in files]
    assert roots[0] == roots[1] == root_of(HOUSEHOLD)
    assert roots[2] != roots[0]


def test_where_the_founder_is_unknown_signatures_are_judged_all_the_same() -> None:
    findings = verify([of_another_swarm().encoded, altered(node(BOB, "cellar"))], None)
    assert not findings.is_membership_proved
    assert findings.wrong == [Wrong(BOB.peer_id, "node", "bad signature")]


def test_an_old_entry_that_is_forged_is_wrong_all_the_same() -> None:
    new, old = says(BOB, "a", {"name": "cellar"}, 2), says(BOB, "a", {"name": "cellar"}, 1)
    assert verify([new.encoded, altered(old)], FOUNDER.public_key).wrong == [
        Wrong(BOB.peer_id, "a", "bad signature")
    ]
    assert verify(encoded(new, old), FOUNDER.public_key).superseded == 1


def test_a_crowd_is_not_told_by_name() -> None:
    crowd = [node(identity(f"number {number}"), f"node-{number:02}") for number in range(40)]
    with pytest.raises(WrongUse, match=r"node-10, node-11, 28 more$"):
        find_owner("kitchen", read_contents(encoded(*crowd)))


def test_no_two_owners_are_called_the_same() -> None:
    names = ["laptop", "laptop", "swarm", ""]
    entries = [node(one, name) for one, name in zip((ALICE, BOB, CAROL, DAVE), names, strict=True)]
    contents = read_contents(entry.encoded for entry in entries)
    assert len(set(contents.labels.values())) == len(contents.labels)
    assert contents.labels[SWARM] == f"swarm ...{SWARM[-6:]}"
    assert DAVE.peer_id not in contents.labels


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (b"\x81\xa1a\xc4\x02\xff\x00", {"a": "ff00"}),
        (b"\x81\xc4\x01a\x01", {"'61'": 1}),
        (b"\x81\x01\xcb\x7f\xf0" + bytes(6), {"1": "inf"}),
        (b"\x81\xa1a\xd4\x05x", {"a": [5, "78"]}),
        (b"\x93\x01\x02\xc0", [1, 2, None]),
        (b"\xc1", "c1"),
        (b"\x81\x91\x01\x02", "81910102"),
        (b"", ""),
    ],
)
def test_a_value_of_any_kind_can_be_shown(written: bytes, value: object) -> None:
    entry = sign_entry(author(BOB), "a", Version(1, 1), written)
    facts = whole_facts(entry, {}, FOUNDER.public_key)
    assert value_of(entry) == value
    assert json.loads(as_json(facts))["value"] == value
    assert json.loads(whole_text(facts, str).partition("\nvalue\n")[2]) == value
    assert entry_table([entry], {}).count("\n") == 1


def test_a_value_of_any_depth_can_be_shown() -> None:
    for depth in (100, 400, 15_000):
        assert len(summary(sign_entry(author(BOB), "a", Version(1, 1), b"\x91" * depth + b"\xc0"))) <= 72
