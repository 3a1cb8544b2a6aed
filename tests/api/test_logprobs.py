"""The probabilities of tokens, in the words of chat and of completions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from federation.backend import Chunk, Done, Timings, TokenLogprob, Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.conftest import Bench

EMOJI = "🙂".encode()
SCRIPT = [
    Chunk(0, (1,), "Par", logprobs=(TokenLogprob(b"Par", -0.5, ((b"Par", -0.5), (b"Lon", -2.0))),)),
    Chunk(0, (2,), "", logprobs=(TokenLogprob(EMOJI[:2], -1.0, ((EMOJI[:2], -1.0),)),)),
    Chunk(0, (3,), "🙂", logprobs=(TokenLogprob(EMOJI[2:], -0.1, ((EMOJI[2:], -0.1),)),)),
    Chunk(0, (4,), "é", logprobs=(TokenLogprob("é".encode(), -math.inf, ((b"e", 0.0),)),)),
    Done(("stop",), Usage(5, 4), Timings()),
]
CHAT_CONTENT = [
    {
        "token": "Par",
        "logprob": -0.5,
        "bytes": [80, 97, 114],
        "top_logprobs": [
            {"token": "Par", "logprob": -0.5, "bytes": [80, 97, 114]},
            {"token": "Lon", "logprob": -2.0, "bytes": [76, 111, 110]},
        ],
    },
    {
        "token": "bytes:\\xf0\\x9f",
        "logprob": -1.0,
        "bytes": [240, 159],
        "top_logprobs": [{"token": "bytes:\\xf0\\x9f", "logprob": -1.0, "bytes": [240, 159]}],
    },
    {
        "token": "bytes:\\x99\\x82",
        "logprob": -0.1,
        "bytes": [153, 130],
        "top_logprobs": [{"token": "bytes:\\x99\\x82", "logprob": -0.1, "bytes": [153, 130]}],
    },
    {
        "token": "é",
        "logprob": -9999.0,
        "bytes": [195, 169],
        "top_logprobs": [{"token": "e", "logprob": 0.0, "bytes": [101]}],
    },
]
OFFSETS = [0, 3, 3, 4]
"""Of `Par🙂é`: the halves of a character begin where it does."""


def test_a_whole_chat_answer_carries_those_of_every_token(new_bench: Callable[..., Bench]) -> None:
    body = new_bench(script=SCRIPT).chat(logprobs=True, top_logprobs=2).json()
    ChatCompletion.model_validate(body, strict=True)
    assert body["choices"][0]["logprobs"] == {"content": CHAT_CONTENT, "refusal": None}


def test_a_chat_stream_carries_them_with_their_tokens_even_without_text(
    new_bench: Callable[..., Bench],
) -> None:
    events = new_bench(script=SCRIPT).chat(logprobs=True, top_logprobs=2, stream=True).events()[:-1]
    for event in events:
        ChatCompletionChunk.model_validate(event, strict=True)
    choices = [event["choices"][0] for event in events]
    said = [choice["logprobs"]["content"] for choice in choices if choice.get("logprobs")]
    assert [each for content in said for each in content] == CHAT_CONTENT
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == "Par🙂é"


def completion(bench: Bench, **said: Any) -> Any:
    return bench.call("POST", "/v1/completions", {"model": "stub", "prompt": "x", "logprobs": 2, **said})


def test_a_whole_completion_says_where_each_token_begins(new_bench: Callable[..., Bench]) -> None:
    body = completion(new_bench(script=SCRIPT)).json()
    Completion.model_validate(body, strict=True)
    assert body["choices"][0]["logprobs"] == {
        "tokens": ["Par", "bytes:\\xf0\\x9f", "bytes:\\x99\\x82", "é"],
        "token_logprobs": [-0.5, -1.0, -0.1, -9999.0],
        "top_logprobs": [
            {"Par": -0.5, "Lon": -2.0},
            {"bytes:\\xf0\\x9f": -1.0},
            {"bytes:\\x99\\x82": -0.1},
            {"e": 0.0},
        ],
        "text_offset": OFFSETS,
    }


def test_offsets_go_on_from_piece_to_piece_of_a_stream(new_bench: Callable[..., Bench]) -> None:
    events = completion(new_bench(script=SCRIPT), stream=True).events()[:-1]
    said = [event["choices"][0]["logprobs"] for event in events if event["choices"][0]["logprobs"]]
    assert [offset for each in said for offset in each["text_offset"]] == OFFSETS


def test_where_only_the_tokens_own_were_asked_for_there_are_no_others(
    new_bench: Callable[..., Bench],
) -> None:
    script = [Chunk(0, (1,), "a", logprobs=(TokenLogprob(b"a", -1.0),)), SCRIPT[-1]]
    assert completion(new_bench(script=script)).json()["choices"][0]["logprobs"]["top_logprobs"] is None
    chat = new_bench(script=script).chat(logprobs=True).json()
    assert chat["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []
