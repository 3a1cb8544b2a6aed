"""Lookups: text to token ids and back, between two steps, for who wants to count or to see them."""

from __future__ import annotations

from collections.abc import Callable

from node.engine.engine_prompt import TOKENS_AT_ONCE_MAX, Tokenizer, text_of
from node.engine.errors import PromptRefused
from node.engine.refusals import refusal
from node.engine.wire import (
    Accepted,
    DetokenizeRequest,
    Finished,
    FromChild,
    LookupRequest,
    Piece,
    TokenizeRequest,
)

TEXT_SIZE_MAX = 256 * 1024
"""Bytes. A quarter of a second to tokenize, and everybody's streams wait for it."""


def answer_lookup(
    model: Tokenizer, request_id: int, request: LookupRequest, clock: Callable[[], float]
) -> list[FromChild]:
    """All that is said to `request`: it is over at once."""
    began = clock()
    try:
        tokens, text = look_up(model, request)
    except PromptRefused as error:
        return [refusal(request_id, error)]
    return [
        Accepted(request_id, bytes(32), len(tokens)),
        Piece(request_id, 0, tokens, text),
        Finished(request_id, (), len(tokens), 0, 0, 0.0, clock() - began, 0.0),
    ]


def require_short_lookup(request: LookupRequest) -> None:
    """Raises PromptRefused, with the parameter's name, if `request` is more than is looked up at once."""
    match request:
        case TokenizeRequest(part):
            size = len(part.text.encode(errors="replace"))
            if size > TEXT_SIZE_MAX:
                raise PromptRefused(
                    f"{size} bytes; {TEXT_SIZE_MAX} can be tokenized at once", param="content"
                )
        case DetokenizeRequest(token_ids):
            if len(token_ids) > TOKENS_AT_ONCE_MAX:
                raise PromptRefused(f"{len(token_ids)} tokens; {TOKENS_AT_ONCE_MAX} at once", param="tokens")


def look_up(model: Tokenizer, request: LookupRequest) -> tuple[tuple[int, ...], str]:
    """The token ids of a text, or the text of ids; the other is empty.

    Raises:
      PromptRefused: it is too long, or has an id that the vocabulary does not have.
    """
    require_short_lookup(request)
    match request:
        case TokenizeRequest():
            return _tokenize(model, request), ""
        case DetokenizeRequest():
            return (), _detokenize(model, request)


def _tokenize(model: Tokenizer, request: TokenizeRequest) -> tuple[int, ...]:
    tokens = model.tokenize(request.part)
    is_bos_wanted = request.adds_special and model.bos is not None and model.adds_bos
    if is_bos_wanted and model.bos is not None and tokens[:1] != [model.bos]:
        tokens.insert(0, model.bos)
    return tuple(tokens)


def _detokenize(model: Tokenizer, request: DetokenizeRequest) -> str:
    vocab_size = model.facts.vocab_size
    unknown = next((token for token in request.token_ids if not 0 <= token < vocab_size), None)
    if unknown is not None:
        raise PromptRefused(f"there is no token {unknown}; this model has {vocab_size}", param="tokens")
    return text_of(model, request.token_ids, "tokens")
