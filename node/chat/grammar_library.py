"""llguidance, which says whether a grammar can be run: the only module here that knows it.

    check_grammar("start: /a+/")        # nothing, or GrammarRefused
    lark_of_gbnf('root ::= "a"+')       # a grammar in Lark

What it is given may cost it a lot of time or memory, so only the render child calls this,
which can be killed. Without the library nothing can be constrained, and another node is asked.

Its `validate_grammar` passes what is too expensive, or has no answer at all: `multipleOf`
a million takes 17 s to compile. So a matcher is started, over a vocabulary of the single
bytes, and led through the beginning of an answer, within the bounds that an engine has.
An engine pays the same again, and no more than this process was given.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from node.chat.errors import GrammarRefused, RendererUnavailable
from node.engine.grammar_limits import COMPILING_MAX, LEXER_STATES_MAX, STEP_FUEL_MAX, STEP_ITEMS_MAX

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

REASON_LENGTH_MAX = 300
"""Characters of what llguidance says; it can quote a whole grammar."""

_BYTES_TRIED = 16
"""Of an answer: a choice among too many, or text that is forced without end, shows after the first one or
two, or behind the head of a first tool call."""

_MISSING = "this node cannot constrain answers: llguidance is not installed"

_EXCERPT = re.compile(r"\n *\d+ \|.*", re.DOTALL)
_PLACE = re.compile(r"^at \d+\(\d+\): ")
_TOKEN_ID = re.compile(r"<\[\d+\]>")
_ANY_BYTE = (1 << 256) - 1
"""In a mask of tokens: all but the end."""
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)


def check_grammar(lark: str, processor_time: Callable[[], float] = time.process_time) -> None:
    """Nothing, if an answer to `lark` can be generated. `processor_time`: seconds, of this process.

    Raises:
      GrammarRefused: it cannot be, or not without holding up an engine.
      RendererUnavailable: the library is not there.
    """
    try:
        from llguidance import LLMatcher, LLParserLimits  # noqa: PLC0415  (templates are rendered without it)
    except ImportError as error:
        raise RendererUnavailable(_MISSING) from error
    # The ids of control tokens mean nothing to this vocabulary; any other lexeme costs the same.
    limits = LLParserLimits(
        step_lexer_fuel=STEP_FUEL_MAX, step_max_items=STEP_ITEMS_MAX, max_lexer_states=LEXER_STATES_MAX
    )
    vocabulary, began = _bytes(), processor_time()
    matcher = LLMatcher(vocabulary, _TOKEN_ID.sub('"."', lark), limits=limits, log_level=0)
    took = processor_time() - began
    for _ in range(_BYTES_TRIED):
        if not _goes_on(matcher):
            break
    if matcher.is_error():
        raise GrammarRefused(_one_line(matcher.get_error()))
    if took > COMPILING_MAX:
        # An engine would stand still as long, with everybody's answers.
        raise GrammarRefused(f"it takes {took:.1f} s to compile, and may take {COMPILING_MAX}")


def lark_of_gbnf(gbnf: str) -> str:
    """llama.cpp's kind of grammar in Lark. One that is Lark already stays as it is, as in llama.cpp.

    Raises:
      GrammarRefused: it does not parse.
      RendererUnavailable: the library is not there.
    """
    try:
        from llguidance import grammar_from  # noqa: PLC0415
    except ImportError as error:
        raise RendererUnavailable(_MISSING) from error
    try:
        return str(grammar_from("gbnf", _ESCAPE.sub(_character, gbnf)))
    except ValueError as error:
        raise GrammarRefused(_one_line(str(error))) from error


def _goes_on(matcher: LLMatcher) -> bool:
    """Take one more byte of an answer, the first that may come. False: there is none."""
    if matcher.is_error() or matcher.is_stopped():
        return False
    allowed = int.from_bytes(matcher.compute_bitmask(), "little") & _ANY_BYTE
    return bool(allowed) and matcher.consume_token((allowed & -allowed).bit_length() - 1)


@cache
def _bytes() -> LLTokenizer:
    """A vocabulary of every byte and an end."""
    from llguidance import LLTokenizer, TokenizerWrapper  # noqa: PLC0415

    return LLTokenizer(TokenizerWrapper(_Bytes()))


class _Bytes:
    eos_token_id = 256
    bos_token_id = None
    tokens = (*(bytes([byte]) for byte in range(256)), b"<eos>")
    special_token_ids = (256,)

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


def _character(match: re.Match[str]) -> str:
    """The letter itself: llguidance 1.9 makes `\\ue9` of `\\u00e9`, which it then does not understand."""
    escape = match.group(1)
    if escape[0] not in "uU" or len(escape) == 1:
        return match.group()
    code = int(escape[1:], 16)
    if code < 0x80:
        return f"\\x{code:02x}"
    is_letter = code <= 0x10FFFF and not 0xD800 <= code < 0xE000
    return chr(code) if is_letter else match.group()


def _one_line(reason: str) -> str:
    """Without the place in a grammar that its reader did not write, and the excerpt of it."""
    reason = _PLACE.sub("", _EXCERPT.sub("", reason)).split("<state>")[0]
    # llguidance's word for a matcher that has nothing to go on with.
    line = " ".join(reason.split()).replace("NoExtensionBias", "no answer could meet it")
    return line if len(line) <= REASON_LENGTH_MAX else line[: REASON_LENGTH_MAX - 3] + "..."
