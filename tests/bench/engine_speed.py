"""Tokens a second over HTTP, of this node and of others, with 1, 4 and 16 streams at once.

The sides take turns, the first to go changing every round, so that whatever else the machine does
hits all alike; a ratio is the median of those of the rounds. The idle ones stay loaded, and do nothing.
All sample as llama.cpp does where a request says nothing: that is what clients send.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from statistics import median
from typing import TypeAlias

from tests.bench.engine_sides import BenchModel, Side, llama_server, stock_server, this_node
from tests.bench.figures import Figure
from tests.bench.streams import Request, ask

ROUNDS = 5
STOCK_ROUNDS = 2
"""There is no aim to reach, and that server is slow."""
TOKENS = {1: 96, 4: 64, 16: 48}
"""Of each answer, by the number of streams: two to five seconds with the larger model on two slow cores."""
AIMS = {1: 0.97, 4: 1.0, 16: 1.0}
"""Of llama-server's tokens a second."""
STOCK_STREAMS = (1, 4)
"""One after the other at any number, so sixteen would say nothing more."""
ANSWER_TIMEOUT = 120.0

MakeSide: TypeAlias = Callable[[Path, BenchModel], AbstractContextManager[Side]]


def measure_speed(model: BenchModel, folder: Path) -> Iterator[Figure]:
    """Against llama-server."""
    yield from _measure(model, folder, llama_server, AIMS, ROUNDS)


def measure_stock(model: BenchModel, folder: Path) -> Iterator[Figure]:
    """Against llama-cpp-python's server."""
    yield from _measure(model, folder, stock_server, dict.fromkeys(STOCK_STREAMS), STOCK_ROUNDS)


def _measure(
    model: BenchModel, folder: Path, other: MakeSide, aims: Mapping[int, float | None], rounds: int
) -> Iterator[Figure]:
    """This node against `other`, with each number of streams in `aims`."""
    with ExitStack() as running:
        sides = [running.enter_context(side(folder, model)) for side in (this_node, other)]
        for side in sides:
            _tokens_a_second(side, 1, round_number=-1)
        for streams, aim in aims.items():
            speeds = _take_turns(sides, streams, rounds)
            for side, measured in zip(sides, speeds, strict=True):
                yield Figure(f"{model.name}, {streams} streams: {side.name}", median(measured), "tokens/s")
            what = f"{model.name}, {streams} streams: {sides[0].name} / {sides[1].name}"
            ratio = median(ours / others for ours, others in zip(*speeds, strict=True))
            yield Figure(what, ratio, "x", aim, is_least=True)


def _take_turns(sides: Sequence[Side], streams: int, rounds: int) -> list[list[float]]:
    """Tokens a second of each, round by round."""
    speeds: list[list[float]] = [[] for _ in sides]
    turns = list(zip(sides, speeds, strict=True))
    for number in range(rounds):
        for side, measured in turns if number % 2 == 0 else reversed(turns):
            measured.append(_tokens_a_second(side, streams, number))
    return speeds


def _tokens_a_second(side: Side, streams: int, round_number: int) -> float:
    """From asking to the end of the last answer, prompts of a dozen tokens included."""
    requests = [_request(side, streams, f"{round_number}.{number}") for number in range(streams)]
    answers = ask(side.url, requests, within=ANSWER_TIMEOUT)
    tokens = sum(answer.tokens for answer in answers)
    # Where the server does not count, a character of several tokens is one event.
    wanted = streams * TOKENS[streams]
    assert 0.9 * wanted < tokens < 1.1 * wanted, f"{side.name} gave {tokens} tokens"
    began, ended = min(each.asked_at for each in answers), max(each.ended_at for each in answers)
    return tokens / (ended - began)


def _request(side: Side, streams: int, name: str) -> Request:
    # The name comes first: nothing of the prompt is cached.
    return {
        **side.endless,
        "model": side.model,
        "prompt": f"{name} is the number of this story. Once upon a time",
        "max_tokens": TOKENS[streams],
        "stream_options": {"include_usage": True},
    }
