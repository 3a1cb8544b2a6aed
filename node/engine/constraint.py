"""Constraint: which tokens a grammar allows next. The only module of the engine that imports `llguidance`.

llguidance (MIT, in Rust) and not llama.cpp's own grammars: it takes JSON schemas whole, bounds its
own work instead of hanging or ending the process, and needs half a millisecond a token for a
vocabulary of 262,144 where those need forty. A grammar that is wrong, or becomes too complex on the
way, costs one answer and nothing else.

Grammars are llguidance's: Lark with `%json`, or what its own `grammar_from_...` make.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from node.engine.errors import PromptRefused
from node.engine.grammar_limits import LEXER_STATES_MAX, STEP_FUEL_MAX, STEP_ITEMS_MAX
from node.engine.sampling import Scores

_SPECIAL = b"\xff"
"""Before the text of a token that no text becomes: 0xff is in no UTF-8."""

_LIMITS = LLParserLimits(
    step_lexer_fuel=STEP_FUEL_MAX,
    step_max_items=STEP_ITEMS_MAX,
    max_lexer_states=LEXER_STATES_MAX,
    # Errors must not quote what somebody generated.
    verbose_errors=False,
)

_ERROR_LENGTH_MAX = 300
"""Characters of an error for a person."""


class GrammarState:
    """One answer's place in its grammar."""

    def __init__(self, matcher: LLMatcher, vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._mask = np.zeros((vocab_size + 31) // 32, np.uint32)

    def copy(self) -> GrammarState:
        """The same place in it, for another answer. Takes microseconds, where compiling takes many."""
        return GrammarState(self._matcher.deep_copy(), self._vocab_size)

    @property
    def is_over(self) -> bool:
        """Nothing may follow: it is complete, or has failed."""
        return bool(self._matcher.is_stopped())

    def restrict(self, scores: Scores) -> bool:
        """Set the scores of tokens that may not come now to -inf. False: none is left.

        Raises:
          PromptRefused: the grammar became too complex on the way.
        """
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        if self._matcher.is_error():
            reason = _brief(self._matcher.get_error())
            raise PromptRefused(f"the grammar cannot be followed: {reason}", param="grammar")
        allowed = np.unpackbits(self._mask.view(np.uint8), count=self._vocab_size, bitorder="little")
        np.copyto(scores, np.float32(-np.inf), where=allowed == 0)
        return bool(np.isfinite(scores.max()))

    def accept(self, token: int) -> bool:
        """`token` came. False: it may not, and this grammar knows no more what follows."""
        return bool(self._matcher.consume_token(token))


class Grammars:
    """Compiles grammars for one vocabulary, once that is indexed."""

    def __init__(
        self,
        pieces: Callable[[], Sequence[bytes]],
        special: Collection[int],
        ends: Sequence[int],
        tokenize: Callable[[str], list[int]],
    ) -> None:
        """`pieces`: bytes of each token, by id; `special`: those no text becomes; `ends`: of an answer."""
        self._pieces = pieces
        self._special = frozenset(special)
        self._ends = list(ends)
        self._tokenize = tokenize
        self._tokenizer: LLTokenizer | None = None

    def index(self) -> None:
        """Get ready to compile, once. 0.2 s for 49,152 tokens, 1.5 s for 262,144, and no other thread runs
        meanwhile: to be done before anybody waits."""
        if self._ends and self._tokenizer is None:
            self._tokenizer = self._indexed()

    def compile(self, grammar: str) -> GrammarState:
        """The beginning of `grammar`.

        Raises:
          PromptRefused: it is none, or too complex; the text says what about it.
        """
        if not self._ends:
            raise PromptRefused(
                "this model has no token that ends an answer, which a grammar needs", param="grammar"
            )
        self.index()
        assert self._tokenizer is not None
        matcher = LLMatcher(self._tokenizer, grammar, limits=_LIMITS, log_level=0)
        if matcher.is_error():
            raise PromptRefused(f"the grammar cannot be used: {_brief(matcher.get_error())}", param="grammar")
        return GrammarState(matcher, self._tokenizer.vocab_size)

    def _indexed(self) -> LLTokenizer:
        pieces = [
            _SPECIAL + piece if token in self._special else piece
            for token, piece in enumerate(self._pieces())
        ]
        return LLTokenizer(
            TokenizerWrapper(_Vocabulary(pieces, self._ends[0], self._tokenize)),
            n_vocab=len(pieces),
            eos_token=self._ends,
        )


class _Vocabulary:
    """What `TokenizerWrapper` asks of a tokeniser."""

    bos_token_id = None
    special_token_ids: Sequence[int] = ()

    def __init__(self, tokens: Sequence[bytes], end: int, tokenize: Callable[[str], list[int]]) -> None:
        self.tokens = tokens
        self.eos_token_id = end
        self._tokenize = tokenize

    def __call__(self, text: bytes) -> list[int]:
        return self._tokenize(text.decode(errors="replace"))


def _brief(error: str) -> str:
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return (lines[0] if lines else "it is empty")[:_ERROR_LENGTH_MAX]
