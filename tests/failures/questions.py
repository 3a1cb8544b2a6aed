"""The kinds of answers that are struck at: what is asked, and what holds of an answer whatever befell it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from node.models.demo_model import DEMO_MODEL_NAME
from tests.failures.client import Reply

LENGTH = 64
"""Tokens of an answer, where nothing else ends it."""

Progress: TypeAlias = Literal["seen", "told", "time"]
"""How it is counted how far an answer is: in tokens that the client saw; in tokens of its first choice that
engines told, where a client does not see each when it comes; in milliseconds since somebody accepted it."""

Told: TypeAlias = Sequence[str]
"""What the tokens that engines reported of each choice say, put into words."""


@dataclass(frozen=True, slots=True)
class Question:
    """One kind of answer."""

    path: str
    body: Mapping[str, Any]
    faults: Callable[[Reply, Told], Iterable[str]]
    """What is wrong with a reply whose connection is fine."""
    choices: int = 1
    progress: Progress = "told"


def _says_what_engines_told(reply: Reply, told: Told) -> Iterable[str]:
    for choice, text in enumerate(told):
        yield from difference(reply.texts[choice], text)


def _is_complete(reply: Reply, told: Told) -> Iterable[str]:
    yield from _says_what_engines_told(reply, told)
    yield from _ends_with(reply, "length", len(told))
    if reply.completion_tokens != LENGTH * len(told):
        yield f"{reply.completion_tokens} tokens are counted"


def _has_every_probability(reply: Reply, told: Told) -> Iterable[str]:
    yield from _is_complete(reply, told)
    if reply.probabilities != LENGTH * len(told):
        yield f"there are {reply.probabilities} probabilities"
    for choice, text in enumerate(told):
        if reply.probable[choice].decode(errors="replace") != text:
            yield f"the probabilities are those of {reply.probable[choice]!r}"


def _follows_the_schema(reply: Reply, told: Told) -> Iterable[str]:
    yield from _says_what_engines_told(reply, told)
    yield from _ends_with(reply, "stop", 1)
    yield from _unreadable(reply.texts[0])


def _calls_the_tool(reply: Reply, told: Told) -> Iterable[str]:
    yield from _ends_with(reply, "tool_calls", 1)
    yield from _unreadable(reply.arguments)
    if reply.function != "get_weather":
        yield f"it calls {reply.function!r}"
    if reply.arguments not in told[0]:
        yield f"engines told {told[0]!r}, the arguments are {reply.arguments!r}"


def _stops_where_it_was_told(reply: Reply, told: Told) -> Iterable[str]:
    yield from difference(reply.texts[0], ALPHABET.partition(STOP)[0])
    if not told[0].startswith(reply.texts[0]):
        yield f"engines told {told[0]!r}"
    yield from _ends_with(reply, "stop", 1)


def _has_every_vector(reply: Reply, told: Told) -> Iterable[str]:
    """Each text is there twice, so no second run is needed to compare with."""
    del told
    if len(reply.vectors) != len(TEXTS):
        yield f"there are {len(reply.vectors)} vectors"
        return
    vectors = np.array(reply.vectors)
    alike = vectors @ vectors.T > _ALIKE
    expected = np.array([[a == b for b in TEXTS] for a in TEXTS])
    if (alike != expected).any():
        yield "the vectors are not those of the texts"


def _ends_with(reply: Reply, reason: str, choices: int) -> Iterable[str]:
    if reply.finish_reasons != dict.fromkeys(range(choices), reason):
        yield f"it ended with {reply.finish_reasons}"


def _unreadable(text: str) -> Iterable[str]:
    try:
        json.loads(text)
    except ValueError as error:
        yield f"{text!r} is no JSON: {error}"


def difference(got: str, told: str) -> Iterable[str]:
    """Where what a client got differs from what engines told, in words; nothing if it does not."""
    if got != told:
        same = next(
            (at for at, (a, b) in enumerate(zip(got, told, strict=False)) if a != b), min(len(got), len(told))
        )
        yield f"from character {same} on the client got {got[same:]!r} and engines told {told[same:]!r}"


def _chat(**parameters: Any) -> Mapping[str, Any]:
    messages = [{"role": "user", "content": "Tell me a long story about a lighthouse."}]
    options = {"include_usage": True}
    common = {"model": DEMO_MODEL_NAME, "messages": messages, "temperature": 0, "stream": True}
    body = {**common, "stream_options": options, "max_tokens": LENGTH, "ignore_eos": True, **parameters}
    return {name: value for name, value in body.items() if value is not None}


_UNTIL_IT_STOPS = {"ignore_eos": None, "max_tokens": 200}

_SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "country": {"type": "string", "maxLength": 20},
        "landmarks": {
            "type": "array",
            "items": {"type": "string", "maxLength": 20},
            "minItems": 4,
            "maxItems": 4,
        },
    },
    "required": ["city", "country", "landmarks"],
    "additionalProperties": False,
}

_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {**_SCHEMA, "properties": {**_SCHEMA["properties"]}},  # type: ignore[dict-item]
    },
}

ALPHABET = "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa"
STOP = "india juliet kilo"
"""Of several tokens: a text of which nothing is delivered while it may become this."""

_SUBJECTS = (
    "rain",
    "bread",
    "tax law",
    "football",
    "granite",
    "opera",
    "diesel",
    "wolves",
    "algebra",
    "soap",
    "Tokyo",
    "chess",
)
TEXTS = [f"All there is to say about {subject}. " * 12 for _ in range(2) for subject in _SUBJECTS]
"""Of some length: the model reads a thousand words a second."""

_ALIKE = 0.999
"""Cosine of two vectors of one text, whatever batches it was in; of two texts here it is below 0.9."""

QUESTIONS: Mapping[str, Question] = {
    "text": Question("/v1/chat/completions", _chat(), _is_complete, progress="seen"),
    "logprobs": Question(
        "/v1/chat/completions", _chat(logprobs=True, top_logprobs=2), _has_every_probability, progress="seen"
    ),
    "n = 2": Question("/v1/chat/completions", _chat(n=2, temperature=0.8, seed=7), _is_complete, choices=2),
    "not streamed": Question("/v1/chat/completions", _chat(stream=False, stream_options=None), _is_complete),
    "JSON schema": Question(
        "/v1/chat/completions",
        _chat(
            **_UNTIL_IT_STOPS,
            response_format={"type": "json_schema", "json_schema": {"name": "place", "schema": _SCHEMA}},
        ),
        _follows_the_schema,
    ),
    "tools": Question(
        "/v1/chat/completions",
        _chat(**_UNTIL_IT_STOPS, tools=[_TOOL], tool_choice="required", parallel_tool_calls=False),
        _calls_the_tool,
    ),
    "stop": Question(
        "/v1/completions",
        {
            "model": DEMO_MODEL_NAME,
            "prompt": "The alphabet on the radio:",
            "grammar": f'root ::= "{ALPHABET}"',
            "stop": [STOP],
            "max_tokens": LENGTH,
            "stream": True,
        },
        _stops_where_it_was_told,
    ),
    "embeddings": Question(
        "/v1/embeddings", {"model": "minilm", "input": TEXTS}, _has_every_vector, choices=0, progress="time"
    ),
}
