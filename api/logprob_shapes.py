"""How OpenAI words the probabilities of tokens, in chat and in completions.

A token that is no text by itself, because a character takes several, is spelt `bytes:\\xf0\\x9f`.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

from federation.backend import TokenLogprob

_LOGPROB_MIN = -9999.0
"""OpenAI's number for what is as good as impossible; JSON has no infinity."""


def chat_logprobs(logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    """What a choice of a chat says of its tokens."""
    content = [
        {
            **_chat_token(each.token, each.logprob),
            "top_logprobs": [_chat_token(token, logprob) for token, logprob in each.top],
        }
        for each in logprobs
    ]
    return {"content": content, "refusal": None}


class CompletionLogprobs:
    """What a choice of completions says of its tokens; keeps count of where in the text they begin."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._length = 0

    def words(self, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Of the tokens after those before."""
        top = [{_text(token): _logprob(logprob) for token, logprob in each.top} for each in logprobs]
        return {
            "tokens": [_text(each.token) for each in logprobs],
            "token_logprobs": [_logprob(each.logprob) for each in logprobs],
            "top_logprobs": top if any(top) else None,
            "text_offset": [self._offset(each.token) for each in logprobs],
        }

    def _offset(self, token: bytes) -> int:
        offset = self._length
        self._length += len(self._decoder.decode(token))
        return offset


def _chat_token(token: bytes, logprob: float) -> dict[str, Any]:
    return {"token": _text(token), "logprob": _logprob(logprob), "bytes": list(token)}


def _text(token: bytes) -> str:
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)


def _logprob(logprob: float) -> float:
    return max(logprob, _LOGPROB_MIN)
