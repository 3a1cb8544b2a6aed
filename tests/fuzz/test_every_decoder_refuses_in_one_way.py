"""A slice of `make fuzz`, the same in every run: near misses are read or refused, and nothing is kept.

A near miss that broke a decoder becomes a named test beside that decoder's own, before its fix.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest

from tests.fuzz.campaign import GROWTH_MAX, TAKES_BASE, TAKES_MAX, run, settle
from tests.fuzz.decoder import Decoder
from tests.fuzz.decoders import DECODERS

COUNT = 1500
SEED = 1
BY_NAME = {decoder.name: decoder for decoder in DECODERS}


@pytest.fixture(autouse=True, scope="module")
def _traced() -> Iterator[None]:
    tracemalloc.start()
    settle()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
def test_a_near_miss_is_read_or_refused_and_costs_no_memory(decoder: Decoder) -> None:
    outcome = run(decoder, COUNT, SEED)
    assert outcome.failures == ()
    assert outcome.mutations == COUNT
    assert outcome.accepted > 0, "nothing got through: these are no near misses"
    assert outcome.refused > COUNT / 10, "nearly all got through: these are no misses"


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
def test_what_near_misses_are_made_from_is_read(decoder: Decoder) -> None:
    for seed in decoder.seeds:
        decoded = decoder.decode(seed)
        again = decoder.again(decoded)
        assert again is None or decoder.again(decoder.decode(again)) == again


def test_the_same_seed_makes_the_same_mutations() -> None:
    decoder = BY_NAME["ledger/probe"]
    first, again, other = run(decoder, 300, 5), run(decoder, 300, 5), run(decoder, 300, 6)
    assert first.accepted == again.accepted != other.accepted


def _raise_something(data: bytes) -> bytes:
    if len(data) < 20:
        raise KeyError("missing")
    return data


def test_another_exception_is_found() -> None:
    broken = Decoder("broken", [bytes(40)], _raise_something, ValueError, are_msgpack=False)
    (failure,) = run(broken, 1000, 1).failures
    assert "KeyError" in failure


def test_what_reads_something_else_than_it_says_again_is_found() -> None:
    twice = Decoder("twice", [bytes(4)], bytes, ValueError, lambda data: data + b"x", are_msgpack=False)
    (failure,) = run(twice, 10, 1).failures
    assert "said again" in failure


def test_a_decoder_that_keeps_its_input_is_found() -> None:
    kept: list[bytes] = []
    hoarder = Decoder(
        "hoarder", [bytes(200)], lambda data: kept.append(bytes(data)), ValueError, are_msgpack=False
    )
    (failure,) = run(hoarder, 2000, 1).failures
    assert "are held" in failure
    assert sum(map(len, kept)) > GROWTH_MAX


def test_a_decoder_that_believes_what_is_announced_is_found() -> None:
    greedy = Decoder(
        "greedy",
        [bytes(4)],
        lambda data: bytes(int.from_bytes(data[:2], "big") * 40),
        ValueError,
        are_msgpack=False,
    )
    (failure,) = run(greedy, 1000, 1).failures
    assert "took" in failure
    assert TAKES_BASE + TAKES_MAX * 4 < 40 * 2**16
