from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.chat.json_scanner import JsonObjectScanner
from node.chat.json_values import JSON_DEPTH_MAX
from tests.node.chat.cutting import CUTS, cut

unhurried = settings(deadline=None)
"""A busy machine is no fault."""

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=4)
SOUP = st.text(alphabet='{}[]":,\\u0123e+-.truefalsn \n', max_size=30)


def scan(text: str) -> tuple[str, int]:
    scanner = JsonObjectScanner()
    length = scanner.feed(text)
    return scanner.state, length


def is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text, parse_constant=lambda _: 1 / 0), dict)
    except (ValueError, ZeroDivisionError):
        return False


@unhurried
@given(OBJECTS, st.sampled_from([None, 2]), st.booleans(), st.text(max_size=5))
def test_an_object_ends_where_it_ends_whatever_follows(
    value: dict[str, Any], indent: int | None, ascii_only: bool, after: str
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert scan(text + after) == ("whole", len(text))
    scanner = JsonObjectScanner()
    assert {(scanner.feed(char), scanner.state) for char in text[:-1]} == {(1, "open")}


@unhurried
@given(SOUP)
def test_it_believes_in_an_object_exactly_where_python_does(text: str) -> None:
    text = "{" + text
    state, length = scan(text)
    assert (state == "whole") == any(is_object(text[:end]) for end in range(len(text) + 1))
    if state == "whole":
        assert is_object(text[:length])


@unhurried
@given(OBJECTS.map(json.dumps) | SOUP.map("{".__add__), CUTS)
def test_it_says_the_same_however_the_text_is_cut(text: str, cuts: list[int]) -> None:
    scanner, taken = JsonObjectScanner(), 0
    for piece in cut(text, cuts):
        if scanner.state == "open":
            taken += scanner.feed(piece)
    assert (scanner.state, taken) == scan(text)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("[]", 0),
        (' {"a":1}', 0),
        ("{,}", 1),
        ('{"a":1,}', 7),
        ('{"a":[1,]}', 8),
        ('{"a":01}', 6),
        ('{"a":1.}', 7),
        ('{"a":+1}', 5),
        ('{"a":.5}', 5),
        ('{"a":nul}', 8),
        ('{"a":NaN}', 5),
        ('{"a":"\n"}', 6),
        ('{"a":"\\x"}', 7),
        ('{"a":"\\u12g4"}', 10),
        ('{"a":1]', 6),
        ("{'a':1}", 1),
        ('{"a":1 2}', 7),
    ],
)
def test_it_breaks_at_the_first_character_that_cannot_be(text: str, length: int) -> None:
    assert scan(text) == ("broken", length)


def test_what_could_not_come_back_in_a_message_is_broken() -> None:
    deep = '{"a":' * JSON_DEPTH_MAX + "1" + "}" * JSON_DEPTH_MAX
    assert scan(deep)[0] == "whole"
    assert scan('{"a":' + deep + "}")[0] == "broken"
