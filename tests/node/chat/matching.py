"""llguidance's matcher over a vocabulary of single bytes, and of whatever control tokens a test needs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import pytest

llguidance = pytest.importorskip("llguidance")

END = 256
CONTROL = 257
"""The first token that is no byte and no end."""


class Vocabulary:
    """As llguidance wants to be told of one."""

    eos_token_id = END
    bos_token_id = None

    def __init__(self, control: Sequence[str]) -> None:
        self.tokens = [
            *(bytes([byte]) for byte in range(256)),
            b"<eos>",
            *(text.encode() for text in control),
        ]
        self.special_token_ids = list(range(END, len(self.tokens)))

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


@lru_cache(maxsize=4)
def _matcher(grammar: str, control: tuple[str, ...]) -> Any:
    tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Vocabulary(control)))
    matcher = llguidance.LLMatcher(tokenizer, grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    return matcher


def matcher_of(grammar: str, ids: Mapping[str, int] | None = None) -> Any:
    """A fresh matcher; `ids` are of control tokens, from `CONTROL` on."""
    return _matcher(grammar, tuple(ids or ())).deep_copy()


def matches(grammar: str, text: str, ids: Mapping[str, int]) -> bool:
    """Whether `text` is a whole answer to `grammar`."""
    matcher = matcher_of(grammar, ids)
    pieces = re.split(f"({'|'.join(map(re.escape, ids))})", text) if ids else [text]
    tokens = [token for piece in pieces for token in ([ids[piece]] if piece in ids else piece.encode())]
    return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())
