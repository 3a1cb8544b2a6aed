"""A field is what was asked for, or a bad frame."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from typing import Any

import pytest

from p2p.errors import BadFrame
from p2p.fields import Fields

WORDS = ("red", "green")


@pytest.mark.parametrize(
    ("read", "good", "bad"),
    [
        (lambda f: f.whole("x", -1, 3), [-1, 3], [None, -2, 4, 1.0, True, "1"]),
        (lambda f: f.number("x", 0, 3), [0, 3, 1.5], [None, -0.1, 3.1, nan, inf, True, "1"]),
        (lambda f: f.flag("x"), [True, False], [None, 0, 1, "true"]),
        (lambda f: f.text("x", 2), ["", "ab"], [None, "abc", b"ab", 1]),
        (lambda f: f.data("x", 2), [b"ab"], [None, b"a", b"abc", "ab"]),
        (lambda f: f.data_up_to("x", 2), [b"", b"ab"], [None, b"abc", "ab"]),
        (lambda f: f.word("x", WORDS), ["red"], [None, "blue", b"red", ["red"]]),
        (lambda f: list(f.words("x", WORDS, 2)), [[], ["green", "red"]], [None, ["blue"], ["red"] * 3]),
        (lambda f: list(f.texts("x", 2, 2)), [[], ["a", "bc"]], [None, "ab", ["a"] * 3, ["abc"], [1]]),
        (lambda f: list(f.wholes("x", 2, 3)), [[], [0, 3]], [None, [-1], [4], [True], [0] * 3, {}]),
        (lambda f: list(f.datas("x", 2)), [[], [b"", b"long"]], [None, b"ab", ["a"], [b""] * 3]),
        (lambda f: list(f.maps("x", 2)), [[], [{"a": 1}]], [None, {}, [{1: 1}], [[]], [{}] * 3]),
        (lambda f: f.fields("x").whole("y", 0, 1), [], [None, [], {}, {"y": 2}, {1: 1}]),
        (lambda f: f.row("x", ["y"]).whole("y", 0, 1), [], [None, {}, [], [2], "y"]),
        (lambda f: list(f.rows("x", 1, ["y", "z"])), [[]], [None, {}, [1], [[1]], [[1, 2]] * 2]),
    ],
)
def test_a_value_of_another_type_or_range_is_refused(
    read: Callable[[Fields], Any], good: list[Any], bad: list[Any]
) -> None:
    assert [read(Fields({"x": value})) for value in good] == good
    for value in bad:
        with pytest.raises(BadFrame):
            read(Fields({"x": value}))


def test_the_items_of_a_row_have_names_and_later_ones_are_ignored() -> None:
    fields = Fields({"one": [1, 2, "later"], "many": [[3, 4], [5, 6, "later"]]})
    assert fields.row("one", ("a", "b")).whole("b", 0, 9) == 2
    assert [row.whole("a", 0, 9) for row in fields.rows("many", 2, ("a", "b"))] == [3, 5]


def test_the_names_of_a_map_are_bounded() -> None:
    assert Fields({"a": 1, "b": None}).names(2) == ("a", "b")
    with pytest.raises(BadFrame):
        Fields({"a": 1, "b": 2}).names(1)


def test_nil_is_as_good_as_absent() -> None:
    assert "x" not in Fields({"x": None})
    assert "x" in Fields({"x": 0})


def test_a_default_stands_for_what_is_absent_only() -> None:
    fields = Fields({"said": 1, "nil": None}).over({"said": 2, "nil": 3, "absent": 4})
    assert [fields.whole(name, 0, 9) for name in ("said", "nil", "absent")] == [1, 3, 4]
