"""What long prompts do: to the streams that run meanwhile, and to the next request that begins alike.

Prompts are common words in an order by chance, which are a token each, so none shares anything with another
one unless it is meant to.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median

import httpx

from tests.bench.engine_sides import SLOTS, BenchModel, Side, llama_server, this_node
from tests.bench.figures import Figure, percentile
from tests.bench.streams import Answer, Conversation, Request, ask

STREAMS = 4
"""Running while a prompt arrives."""
QUIET_TOKENS = 60
"""Of each stream, before it does: its quiet gaps."""
LONG_PROMPT = 2000
"""Tokens, which beside streams are read in some hundred steps: one prompt gives gaps enough."""
SHARED_PREFIX = 1500
HANG_UPS = 8
ANSWER_TIMEOUT = 120.0
_ENDLESS = 3000
"""Tokens: more than any stream gets to."""
_WORDS = ("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school")


def measure_prompts(model: BenchModel, folder: Path) -> Iterator[Figure]:
    """Each side once: what is compared differs by factors, and a slow machine reads for a minute."""
    rng = Random(1)
    with ExitStack() as running:
        sides = [running.enter_context(side(folder, model)) for side in (this_node, llama_server)]
        for side in sides:
            ask(side.url, [_request(side, "Once upon a time", 8)], within=ANSWER_TIMEOUT)
        gaps = [_gaps(side, rng) for side in sides]
        delays = [_first_token_delays(side, rng) for side in sides]
        hang_ups = _hang_up(sides[0], rng)
    for side, samples, (first, second) in zip(sides, gaps, delays, strict=True):
        aims = (4, 0.15) if side is sides[0] else (None, None)
        quiet, disturbed = (percentile(each, 99) for each in samples)
        what = f"{model.name}, {side.name}: gap of {STREAMS} streams, p99"
        yield Figure(f"{what}, quiet", quiet * 1000, "ms")
        yield Figure(f"{what}, while {LONG_PROMPT} tokens are read", disturbed * 1000, "ms")
        yield Figure(f"{what}, while they are read / quiet", disturbed / quiet, "x", aims[0])
        what = f"{model.name}, {side.name}: time to first token"
        yield Figure(f"{what}, {SHARED_PREFIX} tokens and a question", first * 1000, "ms")
        yield Figure(f"{what}, the same with another question", second * 1000, "ms")
        yield Figure(f"{what}, second / first", second / first, "x", aims[1])
    what = f"{model.name}, {sides[0].name}: a client hangs up, {SLOTS} streams, until its slot is free"
    yield Figure(f"{what}, median", median(hang_ups), "steps")
    yield Figure(f"{what}, longest of {len(hang_ups)}", max(hang_ups), "steps")


def _gaps(side: Side, rng: Random) -> tuple[list[float], list[float]]:
    """Of running streams: alone, and while a long prompt is read."""
    conversation = Conversation(side.url)
    try:
        streams = [conversation.ask(_request(side, _words(rng, 8), _ENDLESS)) for _ in range(STREAMS)]
        _read_until_all(conversation, streams, QUIET_TOKENS)
        # The first ones wait for the prompts of the others.
        quiet = [gap for stream in streams for gap in stream.gaps[STREAMS:]]
        arriving = conversation.ask(_request(side, _words(rng, LONG_PROMPT), 1))
        while not arriving.ended_at:
            conversation.read(ANSWER_TIMEOUT)
        _read_until_all(conversation, streams, 1)
    finally:
        conversation.close()
    assert LONG_PROMPT * 0.95 < arriving.prompt_tokens < LONG_PROMPT * 1.05, arriving.prompt_tokens
    began, ended = arriving.asked_at, arriving.arrivals[0]
    pairs = [pair for stream in streams for pair in pairwise(stream.arrivals)]
    return quiet, [later - earlier for earlier, later in pairs if later > began and earlier < ended]


def _first_token_delays(side: Side, rng: Random) -> tuple[float, float]:
    """Of two requests that begin alike, one after the other."""
    prefix = _words(rng, SHARED_PREFIX)
    asked = [_request(side, f"{prefix} {question}", 2) for question in ("Who was it?", "What came of it?")]
    first, second = (ask(side.url, [request], within=ANSWER_TIMEOUT)[0] for request in asked)
    return first.first_token_delay, second.first_token_delay


def _hang_up(side: Side, rng: Random) -> list[float]:
    """How long a hang-up takes to be noticed while all slots are busy, in decode steps of that time."""
    conversation = Conversation(side.url)
    took = []
    try:
        streams = [conversation.ask(_request(side, _words(rng, 8), _ENDLESS)) for _ in range(SLOTS)]
        with httpx.Client(base_url=side.url) as observer:
            for _ in range(HANG_UPS):
                _read_until_all(conversation, streams, 12)
                step = median(streams[0].gaps[-8:])
                before = _in_flight(observer)
                began = time.perf_counter()
                conversation.leave(streams.pop())
                while _in_flight(observer) == before:
                    pass
                took.append((time.perf_counter() - began) / step)
                streams.insert(0, conversation.ask(_request(side, _words(rng, 8), _ENDLESS)))
    finally:
        conversation.close()
    return took


def _in_flight(observer: httpx.Client) -> float:
    """Requests that the node answers now, this one among them."""
    lines = observer.get("/metrics").text.splitlines()
    [value] = [line.split()[-1] for line in lines if line.startswith("localai_node_http_requests_in_flight ")]
    return float(value)


def _read_until_all(conversation: Conversation, streams: list[Answer], arrivals: int) -> None:
    """Until each has so many more arrivals than now."""
    wanted = {id(stream): len(stream.arrivals) + arrivals for stream in streams}
    while any(len(stream.arrivals) < wanted[id(stream)] for stream in streams):
        conversation.read(ANSWER_TIMEOUT)


def _words(rng: Random, count: int) -> str:
    return " ".join(rng.choice(_WORDS) for _ in range(count))


def _request(side: Side, prompt: str, max_tokens: int) -> Request:
    return {
        **side.endless,
        "model": side.model,
        "prompt": prompt,
        "max_tokens": max_tokens,
        "stream_options": {"include_usage": True},
    }
