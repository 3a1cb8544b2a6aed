"""What a text stream shows, whatever the borders of the tokens are."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from node.engine.text_stream import TextStream


def shown(pieces: list[bytes], stop: tuple[str, ...] = ()) -> tuple[list[str], bool]:
    stream = TextStream(stop)
    texts = []
    for piece in pieces:
        texts.append(stream.feed(piece))
        if stream.stopped:
            break
    return [*texts, stream.finish()], stream.stopped


def cut(data: bytes, borders: list[int]) -> list[bytes]:
    places = sorted({min(border, len(data)) for border in borders} | {0, len(data)})
    return [data[begin:end] for begin, end in itertools.pairwise(places)]


borders = st.lists(st.integers(0, 60), max_size=12)
# Few letters, so that texts and stop strings overlap in every way; an emoji of four bytes.
texts = st.text(alphabet="ab\U0001f600é", max_size=24)
stops = st.lists(st.text(alphabet="ab\U0001f600é", min_size=1, max_size=4), max_size=3).map(tuple)


def test_a_character_cut_by_tokens_appears_whole() -> None:
    emoji = "👩‍👩‍👧".encode()
    assert shown([emoji[:2], emoji[2:5], emoji[5:]]) == (["", "👩", "\u200d👩‍👧", ""], False)


def test_half_a_character_at_the_end_is_left_out() -> None:
    assert shown([b"ok", "é".encode()[:1]]) == (["ok", "", ""], False)


def test_text_waits_while_it_may_begin_a_stop_string() -> None:
    assert shown([b"one\n", b"\nUs", b"er: two"], ("\n\nUser:",)) == (["one", "", "", ""], True)


def test_text_that_only_looked_like_a_stop_string_comes_out() -> None:
    assert shown([b"one\n", b"\nUsed"], ("\n\nUser:",)) == (["one", "\n\nUsed", ""], False)


def test_text_held_back_at_the_end_comes_out() -> None:
    assert shown([b"one\n\nUse"], ("\n\nUser:",)) == (["one", "\n\nUse"], False)


def test_the_stop_string_that_is_complete_first_ends_the_text() -> None:
    assert shown([b"abcd"], ("abcd", "bc")) == (["a", ""], True)


@given(texts, borders, stops)
def test_where_tokens_are_cut_changes_nothing(text: str, borders: list[int], stop: tuple[str, ...]) -> None:
    data = text.encode()
    whole, whole_stopped = shown([data], stop)
    pieces, pieces_stopped = shown(cut(data, borders), stop)
    assert ("".join(pieces), pieces_stopped) == ("".join(whole), whole_stopped)


@given(texts, borders, stops)
def test_no_stop_string_is_ever_shown(text: str, borders: list[int], stop: tuple[str, ...]) -> None:
    pieces, stopped = shown(cut(text.encode(), borders), stop)
    answer = "".join(pieces)
    assert text.startswith(answer)
    assert not any(each in answer for each in stop)
    assert stopped == any(each in text for each in stop)
    assert stopped or answer == text


@given(st.binary(max_size=40), borders)
def test_bytes_that_are_no_text_are_shown_as_replacements(data: bytes, borders: list[int]) -> None:
    pieces, _ = shown(cut(data, borders))
    whole = data.decode(errors="replace")
    answer = "".join(pieces)
    # Only what is incomplete at the very end is missing.
    assert answer == whole or (whole.startswith(answer) and len(whole) - len(answer) <= 1)
