"""What engines reported adds up to what a client must have got; whatever differs is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.failures.client import Reply
from tests.failures.questions import QUESTIONS, difference
from tests.failures.record import Account, Note, Records, account_of, attempts_of, silence


def accepted(at: float, node: str, *resumed: list[int]) -> Note:
    return node, {"at": at, "what": "accepted", "resumed": list(resumed)}


def said(at: float, node: str, *ids: int, choice: int = 0) -> Note:
    return node, {"at": at, "what": "said", "choice": choice, "ids": list(ids)}


def done(at: float, node: str) -> Note:
    return node, {"at": at, "what": "done"}


def test_what_died_undelivered_is_no_part_of_an_answer() -> None:
    notes = [accepted(1, "a"), said(2, "a", 1, 2, 3), accepted(3, "b", [1, 2]), said(4, "b", 9), done(5, "b")]
    assert account_of(attempts_of(notes), 0) == Account([1, 2, 9], seams=[2], contradictions=0)


def test_notes_of_several_nodes_are_put_in_order() -> None:
    notes = [accepted(3, "b", [1]), said(4, "b", 2), done(5, "b"), accepted(1, "a"), said(2, "a", 1)]
    attempts = attempts_of(notes)
    assert [(each.node, each.is_done) for each in attempts] == [("a", False), ("b", True)]
    assert account_of(attempts, 0).ids == [1, 2]


def test_choices_have_accounts_of_their_own() -> None:
    notes = [
        accepted(1, "a"),
        said(2, "a", 1),
        said(3, "a", 7, choice=1),
        accepted(4, "b", [1], []),
        said(5, "b", 8, choice=1),
    ]
    attempts = attempts_of(notes)
    assert [account_of(attempts, choice).ids for choice in (0, 1)] == [[1], [8]]


@pytest.mark.parametrize("delivered", [[1, 5], [1, 2, 3, 4], [2]])
def test_a_delivery_that_nobody_reported_is_a_contradiction(delivered: list[int]) -> None:
    notes = [accepted(1, "a"), said(2, "a", 1, 2, 3), accepted(3, "b", delivered)]
    assert account_of(attempts_of(notes), 0).contradictions == 1


def test_time_in_which_an_engine_reads_is_no_silence() -> None:
    notes = [accepted(1, "a"), said(2, "a", 1), accepted(12, "b", [1]), said(15, "b", 2), done(16, "b")]
    assert silence([0, 2, 15, 16], attempts_of(notes)) == 10


def test_who_died_before_a_word_was_no_reader() -> None:
    notes = [accepted(1, "a"), accepted(4, "b"), said(6, "b", 1)]
    assert silence([0, 6], attempts_of(notes)) == 4


def test_who_was_woken_when_somebody_else_had_taken_over_was_no_reader() -> None:
    notes = [accepted(1, "a"), accepted(5, "b"), said(6, "b", 1), said(9, "a", 1), done(10, "b")]
    assert silence([0, 6, 10], attempts_of(notes)) == 5


@pytest.mark.parametrize("got", ["once upon a", "once upon a a time", "once a time", "once upon a time!", ""])
def test_a_text_with_something_lost_or_repeated_is_told_from_the_right_one(got: str) -> None:
    assert list(difference(got, "once upon a time"))
    assert not list(difference("once upon a time", "once upon a time"))


def good_reply(**changes: Any) -> Reply:
    reply = Reply(finish_reasons={0: "length"}, completion_tokens=64)
    reply.texts[0] = "once"
    for name, value in changes.items():
        setattr(reply, name, value)
    return reply


@pytest.mark.parametrize(
    "changes", [{"finish_reasons": {0: "stop"}}, {"finish_reasons": {}}, {"completion_tokens": 65}]
)
def test_a_wrong_end_or_count_is_a_fault(changes: dict[str, Any]) -> None:
    faults = QUESTIONS["text"].faults
    assert not list(faults(good_reply(), ["once"]))
    assert list(faults(good_reply(**changes), ["once"]))


def test_a_line_that_is_being_written_is_read_once_it_is_whole(tmp_path: Path) -> None:
    records, path = Records(), tmp_path / "a"
    line = json.dumps({"id": "r", "at": 1, "what": "accepted", "resumed": []}) + "\n"
    path.write_text(line[:20], encoding="utf-8")
    records.follow("a", path)
    assert records.attempts("r") == []
    path.write_text(line, encoding="utf-8")
    assert [each.node for each in records.attempts("r")] == ["a"]
    records.close()
