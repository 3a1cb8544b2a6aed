"""Vocabulary: text to token ids and back, and what is special among them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from llama_cpp import llama_cpp

from node.engine.constraint import Grammars
from node.engine.wire import PromptPart

_SPECIAL_TOKENS_MAX = 16_384
"""No known vocabulary has half as many."""

_PIECES_MAX = 16_384
"""Pieces that are kept, in some 2 MB: more than a few answers use. To ask llama.cpp for one between two
decodes takes 40 us, because nothing of that is left in the processor's caches."""


class Vocabulary:
    """That of one model."""

    def __init__(self, weights: Any) -> None:  # noqa: ANN401 (a ctypes pointer)
        self._vocab = llama_cpp.llama_model_get_vocab(weights)
        self.size: int = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self.bos = self._id(llama_cpp.llama_vocab_bos)
        self.eos = self._id(llama_cpp.llama_vocab_eos)
        self.separator = self._id(llama_cpp.llama_vocab_sep)
        self.adds_bos = self.bos is not None and bool(llama_cpp.llama_vocab_get_add_bos(self._vocab))
        self.adds_eos = self.eos is not None and bool(llama_cpp.llama_vocab_get_add_eos(self._vocab))
        self.adds_separator = self.separator is not None and bool(
            llama_cpp.llama_vocab_get_add_sep(self._vocab)
        )
        self._special = self._special_tokens()
        self.special = {token: text for token in self._special if (text := self.text(token))}
        """Texts of control tokens, by id."""
        self.ends = self._end_tokens()
        self.infill = self._infill_tokens()
        self.token_size_max = self._longest_token_text()
        # One for all: asking for each token of a large vocabulary takes half the time.
        self._buffer = ctypes.create_string_buffer(max(256, self.token_size_max))
        self.piece: Callable[[int], bytes] = lru_cache(_PIECES_MAX)(self._piece)
        """The bytes a token stands for; none for a control token."""

    def grammars(self) -> Grammars:
        """What compiles grammars over these tokens."""
        return Grammars(
            lambda: [self._piece(token) for token in range(self.size)],
            self._special,
            sorted(self.ends),
            lambda text: self.tokenize(PromptPart(text, parse_special=False)),
        )

    def text(self, token: int | None) -> str:
        """How the vocabulary spells `token`; empty for None."""
        if token is None:
            return ""
        spelt: bytes = llama_cpp.llama_vocab_get_text(self._vocab, token)
        return spelt.decode(errors="replace")

    def _id(self, lookup: Any) -> int | None:  # noqa: ANN401 (a ctypes function)
        token: int = lookup(self._vocab)
        return token if token >= 0 else None

    def _special_tokens(self) -> list[int]:
        special = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
        attributes = llama_cpp.llama_vocab_get_attr
        found = [token for token in range(self.size) if attributes(self._vocab, token) & special]
        return found[:_SPECIAL_TOKENS_MAX]

    def _end_tokens(self) -> frozenset[int]:
        """With which the model ends an answer."""
        named = (self.eos, self._id(llama_cpp.llama_vocab_eot))
        candidates = {token for token in (*self._special, *named) if token is not None}
        return frozenset(token for token in candidates if llama_cpp.llama_vocab_is_eog(self._vocab, token))

    def _infill_tokens(self) -> tuple[int, int, int] | None:
        """Before a prefix, before a suffix, and before what comes between."""
        before, after, between = (
            self._id(llama_cpp.llama_vocab_fim_pre),
            self._id(llama_cpp.llama_vocab_fim_suf),
            self._id(llama_cpp.llama_vocab_fim_mid),
        )
        if before is None or after is None or between is None:
            return None
        return before, after, between

    def _longest_token_text(self) -> int:
        """Bytes. A token's text is never shorter than the bytes it stands for."""
        text = llama_cpp.llama_vocab_get_text
        return max(len(text(self._vocab, token)) for token in range(self.size))

    def tokenize(self, part: PromptPart, *, adds_special: bool = False) -> list[int]:
        """The token ids of `part`; with a first and last token of the model's own only if asked for."""
        text = part.text.encode()
        # No token is empty; some vocabularies put a space in front, and one or two at each end.
        return self._tokenize(
            text, len(text) + 6, adds_special=adds_special, parse_special=part.parse_special
        )

    def _tokenize(self, text: bytes, count_max: int, *, adds_special: bool, parse_special: bool) -> list[int]:
        tokens = (llama_cpp.llama_token * count_max)()
        count = llama_cpp.llama_tokenize(
            self._vocab, text, len(text), tokens, count_max, adds_special, parse_special
        )
        if count < 0:
            # A vocabulary that writes one character as several first: it says how many tokens there are.
            return self._tokenize(text, -count, adds_special=adds_special, parse_special=parse_special)
        return list(tokens[:count])

    def _piece(self, token: int) -> bytes:
        assert 0 <= token < self.size
        buffer = self._buffer
        count = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
        assert count >= 0, "longer than the text it is spelt with"
        return buffer.raw[:count]
