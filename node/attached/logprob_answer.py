"""Probabilities as servers word them: OpenAI's form for chats, and the one for completions."""

from __future__ import annotations

from federation.backend import TokenLogprob
from node.attached.errors import BadAnswer
from node.attached.json_fields import JsonFields, finite, portable

_LOGPROB_MIN, _LOGPROB_MAX = -1e6, 1.0
"""What a frame to a peer carries. What cannot happen has none that is finite."""

_TOKENS_MAX = 4096
"""In one event; mostly there is one."""

_TOKEN_SIZE_MAX = 1024
"""Bytes that one token stands for: four times the longest there is."""


def read_logprobs(fields: JsonFields, top: int) -> tuple[TokenLogprob, ...]:
    """The probabilities of the tokens of one event, with the `top` likeliest at each place.

    Raises:
      BadAnswer: they are not probabilities.
    """
    if len(fields.items("content")) > _TOKENS_MAX or len(fields.items("tokens")) > _TOKENS_MAX:
        raise BadAnswer(f"it sent the probabilities of more than {_TOKENS_MAX} tokens at once")
    # llama-server words those of completions like those of chats.
    if "content" in fields:
        return tuple(
            TokenLogprob(*_pair(row), tuple(map(_pair, row.rows("top_logprobs")))[:top])
            for row in fields.rows("content")
        )
    return tuple(_of_completion(fields, top))


def _of_completion(fields: JsonFields, top: int) -> list[TokenLogprob]:
    tokens, logprobs = fields.items("tokens"), fields.items("token_logprobs")
    if len(tokens) != len(logprobs):
        raise BadAnswer("it sent tokens and probabilities that are not pairs")
    likeliest = fields.items("top_logprobs") or [None] * len(tokens)
    if len(likeliest) != len(tokens):
        raise BadAnswer("it sent other tokens beside those it generated than there are")
    return [
        TokenLogprob(_bytes(token, None), _logprob(logprob), _likeliest(row, top))
        for token, logprob, row in zip(tokens, logprobs, likeliest, strict=True)
    ]


def _likeliest(row: object, top: int) -> tuple[tuple[bytes, float], ...]:
    if row is None:
        return ()
    if not isinstance(row, dict):
        raise BadAnswer("it sent likeliest tokens that are not an object")
    pairs = [(_bytes(token, None), _logprob(logprob)) for token, logprob in row.items()]
    return tuple(sorted(pairs, key=lambda pair: -pair[1])[:top])


def _pair(row: JsonFields) -> tuple[bytes, float]:
    return _bytes(row.raw("token"), row.raw("bytes")), _logprob(row.raw("logprob"))


def _bytes(token: object, spelt: object) -> bytes:
    if isinstance(spelt, list) and spelt:
        if not all(isinstance(each, int) and 0 <= each <= 255 for each in spelt[:_TOKEN_SIZE_MAX]):
            raise BadAnswer("it spelt a token in what are not bytes")
        return bytes(spelt[:_TOKEN_SIZE_MAX])
    if not isinstance(token, str):
        raise BadAnswer("it sent a token that is not text")
    return portable(token).encode()[:_TOKEN_SIZE_MAX]


def _logprob(value: object) -> float:
    if value is None:
        return _LOGPROB_MIN
    return min(max(finite(value, "logprob"), _LOGPROB_MIN), _LOGPROB_MAX)
