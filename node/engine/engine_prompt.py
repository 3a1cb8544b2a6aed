"""The prompt of a request as token ids, checked against the model's vocabulary and context."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from node.engine.errors import OtherPrompt, PromptRefused, PromptTooLong
from node.engine.wire import FRAME_SIZE_MAX, GenerateRequest, ModelFacts, PromptPart

_TOKEN_SIZE_USUAL = 16
"""Bytes. Of a text in any language the tokens have three to five; of long runs of blanks some have more."""

TOKENS_AT_ONCE_MAX = 32 * 1024
"""Tokens whose text is looked up at once, which takes a tenth of a second: everybody waits for it."""

_TEXT_SIZE_MAX = FRAME_SIZE_MAX // 2
"""Bytes of a text that is said at once, so that a frame holds it with all that comes besides."""

_SIZE_MIN = 64 * 1024
"""Bytes that may be of any kind: they take a twentieth of a second."""


class Tokenizer(Protocol):
    """What reading a prompt asks of a model."""

    @property
    def facts(self) -> ModelFacts: ...
    @property
    def bos(self) -> int | None: ...
    @property
    def adds_bos(self) -> bool: ...
    @property
    def infill(self) -> tuple[int, int, int] | None:
        """The tokens before a prefix, before a suffix and before what comes between; None: it cannot."""

    @property
    def token_size_max(self) -> int: ...
    def tokenize(self, part: PromptPart) -> list[int]: ...
    def piece(self, token: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads first."""

    tokens: list[int]
    """At least one."""
    sha256: bytes
    """Over the ids, 4 bytes little-endian each: equal prompts on two machines have equal ones."""


def read_prompt(model: Tokenizer, request: GenerateRequest) -> Prompt:
    """The prompt of `request`, which leaves room for its answer.

    Raises:
      PromptRefused: an id the vocabulary does not have, nothing to start from, a suffix nobody can fill.
      PromptTooLong: it does not fit the context, or not with as many tokens of answer as were asked for.
      OtherPrompt: it is not the one that is to be resumed.
    """
    _require_known(model, request)
    tokens = _tokens(model, request)
    prompt = Prompt(tokens, hashlib.sha256(struct.pack(f"<{len(tokens)}i", *tokens)).digest())
    _require_room(len(tokens), request.max_tokens, model.facts.context_size)
    if request.resume is not None:
        if request.resume.prompt_sha256 != prompt.sha256:
            raise OtherPrompt("the prompt to be resumed reads as other tokens here")
        if len(request.resume.choices) != request.choices:
            raise PromptRefused("tokens of every choice are needed to resume", param="resume")
    return prompt


def _require_known(model: Tokenizer, request: GenerateRequest) -> None:
    """Raises PromptRefused if `request` names tokens that the vocabulary does not have."""
    named = {
        "logit_bias": request.sampling.logit_bias,
        "resume": [token for choice in request.resume.choices for token in choice.token_ids]
        if request.resume
        else (),
    }
    for param, tokens in named.items():
        for token in tokens:
            if not 0 <= token < model.facts.vocab_size:
                raise PromptRefused(
                    f"there is no token {token}; this model has {model.facts.vocab_size}", param=param
                )


def echoed(model: Tokenizer, request: GenerateRequest, tokens: Sequence[int]) -> str:
    """The prompt as text, for an answer that begins with it.

    Raises:
      PromptRefused: that is more than can be said at once.
    """
    parts = [part for part in request.prompt if isinstance(part, PromptPart)]
    if parts:
        return _short("".join(part.text for part in parts), "echo")
    return text_of(model, tokens, "echo")


def text_of(model: Tokenizer, tokens: Sequence[int], param: str) -> str:
    """What `tokens` stand for.

    Raises:
      PromptRefused: they are too many, or their text is too long; `param` asked for it.
    """
    if len(tokens) > TOKENS_AT_ONCE_MAX:
        raise PromptRefused(
            f"{len(tokens)} tokens; the text of {TOKENS_AT_ONCE_MAX} can be had at once", param=param
        )
    return _short(b"".join(map(model.piece, tokens)).decode(errors="replace"), param)


def _short(text: str, param: str) -> str:
    size = len(text.encode())
    if size > _TEXT_SIZE_MAX:
        raise PromptRefused(f"{size} bytes of text; {_TEXT_SIZE_MAX} can be had at once", param=param)
    return text


def text_size_max(model: Tokenizer) -> int:
    """Bytes of a text that may fit the context: a megabyte takes a second to tokenize, and all wait."""
    context_size = model.facts.context_size
    return min(context_size * model.token_size_max, context_size * _TOKEN_SIZE_USUAL + _SIZE_MIN)


def _tokens(model: Tokenizer, request: GenerateRequest) -> list[int]:
    size = sum(len(part.text.encode()) for part in request.prompt if isinstance(part, PromptPart))
    size += len((request.suffix or "").encode())
    if size > text_size_max(model):
        context_size = model.facts.context_size
        raise PromptTooLong(f"{size} bytes of prompt cannot fit the context of {context_size} tokens")
    tokens: list[int] = []
    for part in request.prompt:
        if isinstance(part, PromptPart):
            tokens += model.tokenize(part)
        elif 0 <= part < model.facts.vocab_size:
            tokens.append(part)
        else:
            raise PromptRefused(
                f"there is no token {part}; this model has {model.facts.vocab_size}", param="prompt"
            )
    if request.suffix is not None:
        tokens = _around_gap(model, tokens, request.suffix)
    is_text = any(isinstance(part, PromptPart) for part in request.prompt)
    # A template may have written the first token already.
    if model.bos is not None and (not tokens or (is_text and model.adds_bos and tokens[0] != model.bos)):
        tokens.insert(0, model.bos)
    if not tokens:
        raise PromptRefused("the prompt is empty, and this model has no token to begin with", param="prompt")
    return tokens


def _around_gap(model: Tokenizer, prefix: Sequence[int], suffix: str) -> list[int]:
    if model.infill is None:
        raise PromptRefused("this model was not trained to fill in text before a suffix", param="suffix")
    before, after, between = model.infill
    return [before, *prefix, after, *model.tokenize(PromptPart(suffix, parse_special=False)), between]


def _require_room(prompt_length: int, max_tokens: int | None, context_size: int) -> None:
    room = context_size - prompt_length
    if room < 1:
        raise PromptTooLong(f"{prompt_length} tokens of prompt do not fit the context of {context_size}")
    if max_tokens is not None and max_tokens > room:
        raise PromptTooLong(
            f"{prompt_length} tokens of prompt and {max_tokens} of answer "
            f"do not fit the context of {context_size}",
            param="max_tokens",
        )
