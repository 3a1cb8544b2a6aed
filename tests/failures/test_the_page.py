"""The page of the matrix leaves nothing out: what was missed, and what could not be tried."""

from __future__ import annotations

from tests.failures.cell import Cell
from tests.failures.page import page

GOOD = Cell("SIGKILL", "text", 3, seams=[3], silence=0.25, silence_max=1.0)
SLOW = Cell("SIGKILL", "text", 4, seams=[6], silence=1.5, silence_max=1.0)
WRONG = Cell("SIGKILL", "tools", 8, faults=["a token is lost"], leases=1)


def test_a_cell_that_missed_its_aim_is_named_with_why() -> None:
    said = page([GOOD, SLOW, WRONG], "a machine", "today")
    assert "| SIGKILL | text | 2 | 0 | 0 | 0.88 | 1.50 | 1 |" in said
    assert "| 3 | 0.25 |" in said
    assert "| 4 | 1.50, 6 ! |" in said
    assert "- SIGKILL, text, at 4, went on at [6]: 1.50 s without a word" in said
    assert "- SIGKILL, tools, at 8, went on at []: a token is lost; 1 leases and 0 slots were left" in said


def test_where_all_is_well_nothing_is_said_to_be_missed() -> None:
    assert "missed\n" not in page([GOOD], "a machine", "today").partition("## All")[2]


def test_what_could_not_be_tried_is_named() -> None:
    assert page([GOOD], "a machine", "today", ["half-open"]).endswith("this machine cannot: half-open.\n")
