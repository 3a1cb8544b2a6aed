"""Tokens a second over HTTP, of this node and of others, with 1, 4 and 16 streams at once.

The sides take turns, the first to go changing every round, so that whatever else the machine does
hits all alike; a ratio is the median of those of the rounds. The idle ones stay loaded, and do nothing.
All sample as llama.cpp does where a request says nothing: that is what clients send.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from tests.bench.engine_sides import BenchModel, Side, llama_server, stock_server, this_node
from tests.bench.figures import Figure
from tests.bench.streams import Request, ask

ROUNDS = 5
TOKENS = {1: 96, 4: 64, 16: 48}
"""Of each answer, by the number of streams: two to five seconds with the larger model on two slow cores."""
AIMS = {1: 0.97, 4: 1.0, 16: 1.0}
"""Of llama-server's tokens a second."""
STOCK_STREAMS = (1, 4)
"""One after the other at any number, so sixteen would say nothing more."""
ANSWER_TIMEOUT = 120.0


def measure_speed(model: BenchModel, folder: Path) -> Iterator[Figure]:
    """Each number of streams, five rounds each."""
    with ExitStack() as running:
        sides = [
            running.enter_context(side(folder, model)) for side in (this_node, llama_server, stock_server)
        ]
        for side in sides:
            _tokens_a_second(side, 1, round_number=-1)
        for streams in TOKENS:
            taking_part = sides if streams in STOCK_STREAMS else sides[:2]
            speeds = _take_turns(taking_part, streams)
            for name, measured in speeds.items():
                yield Figure(f"{model.name}, {streams} streams: {name}", median(measured), "tokens/s")
            ours, *others = speeds.items()
            for name, measured in others:
                ratio = median(own / other for own, other in zip(ours[1], measured, strict=True))
                least = AIMS[streams] if name == "llama-server" else None
                yield Figure(
                    f"{model.name}, {streams} streams: this node / {name}", ratio, "x", least, is_least=True
                )


def _take_turns(sides: list[Side], streams: int) -> dict[str, list[float]]:
    """Tokens a second of each, round by round."""
    speeds: dict[str, list[float]] = defaultdict(list)
    for number in range(ROUNDS):
        for side in sides if number % 2 == 0 else reversed(sides):
            speeds[side.name].append(_tokens_a_second(side, streams, number))
    return {side.name: speeds[side.name] for side in sides}


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
