"""What a request asks of an engine: checked, with the model's own defaults filled in.

What arrives may come from a peer of any version, so values are checked here again,
where they are about to be used: some abort llama.cpp instead of failing.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

from federation.backend import SLOTLESS_KINDS, InferenceRequest, Sampling
from federation.errors import BadRequest
from node.engine.wire import (
    DetokenizeRequest,
    EmbedRequest,
    FilledSampling,
    GenerateRequest,
    LookupRequest,
    PromptPart,
    TokenizeRequest,
)
from node.models.model_yaml import ModelSettings

_STOPS_MAX = 64
"""Sixteen times what OpenAI allows; each is compared with every piece of text."""

_STOP_LENGTH_MAX = 1024
"""Characters: that much text may be held back while a stop string forms."""

_TOKEN_ID_MAX = 2**31 - 1
"""What llama.cpp can hold; the engine knows the model's vocabulary."""


_CHOICES_MAX = 128
"""OpenAI's own bound; how many slots there are, the engine knows."""

_TOP_LOGPROBS_MAX = 20
"""OpenAI's own bound. Each is sent with every token."""

_BIAS_MAX = 100.0
"""OpenAI's own bound: it bans or forces a token."""

_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "top_k": (0, _TOKEN_ID_MAX),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    # Dividing by nothing, or by less than nothing, orders nothing.
    "repeat_penalty": (0.01, 100),
    "repeat_last_n": (-1, _TOKEN_ID_MAX),
    "presence_penalty": (-100, 100),
    "frequency_penalty": (-100, 100),
}
"""From the least to the most that means anything; clients are held to OpenAI's own by the API."""


def require_capable(request: InferenceRequest, capabilities: Collection[str]) -> None:
    """Return if a model that can do what is in `capabilities` can serve `request`.

    Raises:
      BadRequest: it is for something else.
    """
    if request.kind not in SLOTLESS_KINDS and request.kind not in capabilities:
        can = " and ".join(capabilities)
        raise BadRequest(f"{request.model} is for {can}, not for {request.kind}", param="model")


def require_servable(request: InferenceRequest) -> None:
    """Raises BadRequest, with the field's name, if no engine could serve `request`. Looks at no model."""
    if not 0 < request.timeout < math.inf:
        raise BadRequest("timeout must be a positive number of seconds", param="timeout")
    if request.max_tokens is not None and request.max_tokens < 1:
        raise BadRequest("max_tokens must be at least 1", param="max_tokens")
    if len(request.stop) > _STOPS_MAX or not all(0 < len(stop) <= _STOP_LENGTH_MAX for stop in request.stop):
        raise BadRequest(
            f"stop takes at most {_STOPS_MAX} texts of 1 to {_STOP_LENGTH_MAX} characters", param="stop"
        )
    if not 1 <= request.choices <= _CHOICES_MAX:
        raise BadRequest(f"n must be from 1 to {_CHOICES_MAX}", param="n")
    if request.top_logprobs is not None and not 0 <= request.top_logprobs <= _TOP_LOGPROBS_MAX:
        raise BadRequest(f"top_logprobs must be from 0 to {_TOP_LOGPROBS_MAX}", param="top_logprobs")
    if request.resume is not None and request.kind not in ("chat", "completion"):
        raise BadRequest(f"{request.kind} gives no text to go on with", param="resume")
    _require_sane(request.sampling)


def _require_sane(sampling: Sampling) -> None:
    for name, (minimum, maximum) in _RANGES.items():
        value = getattr(sampling, name)
        # NaN is in no range.
        if value is not None and not minimum <= value <= maximum:
            raise BadRequest(f"{name} must be from {minimum:g} to {maximum:g}", param=name)
    for token, bias in (sampling.logit_bias or {}).items():
        if not 0 <= token <= _TOKEN_ID_MAX or not -_BIAS_MAX <= bias <= _BIAS_MAX:
            raise BadRequest(
                f"logit_bias takes token ids, and numbers from -{_BIAS_MAX:g} to {_BIAS_MAX:g}",
                param="logit_bias",
            )


def field_to_blame(request: InferenceRequest, engine_param: str, *, is_too_long: bool = False) -> str | None:
    """What of `request` an engine means by `engine_param`, if it is anything.

    An engine sees less than there was: one prompt, one grammar.
    """
    match engine_param:
        case "grammar" if request.constraint is not None:
            return "grammar" if request.constraint.kind == "gbnf" else "response_format"
        case "grammar":
            return "tools"
        case "input" if request.kind == "rerank":
            return "documents"
        case "" if not is_too_long:
            return None
        case "" | "prompt":
            return "messages" if request.kind == "chat" else "prompt"
    return engine_param


def completion_prompt(request: InferenceRequest) -> tuple[PromptPart, ...] | tuple[int, ...]:
    """The prompt of a completion. Special tokens count in its text: there is no template to write them.

    Raises:
      BadRequest: it is not text, or ids no vocabulary has.
    """
    if isinstance(request.prompt, str):
        return (PromptPart(request.prompt, parse_special=True),)
    if not all(0 <= token <= _TOKEN_ID_MAX for token in request.prompt):
        raise BadRequest("prompt must be text or a list of token ids", param="prompt")
    return tuple(request.prompt)


def lookup_request(request: InferenceRequest) -> LookupRequest:
    """What a vocabulary is asked.

    Raises:
      BadRequest: it is of the wrong type.
    """
    if request.kind == "tokenize":
        if not isinstance(request.prompt, str):
            raise BadRequest("content must be text", param="content")
        return TokenizeRequest(PromptPart(request.prompt, parse_special=True), request.adds_special)
    if isinstance(request.prompt, str):
        raise BadRequest("tokens must be a list of token ids", param="tokens")
    return DetokenizeRequest(tuple(request.prompt))


def embed_request(request: InferenceRequest) -> EmbedRequest:
    """Texts to embed, or to rank.

    Raises:
      BadRequest: there are none, or ids no vocabulary has.
    """
    if not request.inputs:
        raise BadRequest("input must not be empty", param="input")
    inputs = tuple(map(_embeddable, request.inputs))
    if request.kind == "embeddings":
        return EmbedRequest(inputs)
    if not isinstance(request.prompt, str):
        raise BadRequest("query must be text", param="query")
    return EmbedRequest(inputs, PromptPart(request.prompt, parse_special=False))


def _embeddable(text: str | Sequence[int]) -> PromptPart | tuple[int, ...]:
    if isinstance(text, str):
        return PromptPart(text, parse_special=False)
    if not all(0 <= token <= _TOKEN_ID_MAX for token in text):
        raise BadRequest("input must be texts or lists of token ids", param="input")
    return tuple(text)


def engine_request(
    request: InferenceRequest,
    settings: ModelSettings,
    prompt: tuple[PromptPart, ...] | tuple[int, ...],
    *,
    stops: tuple[str, ...] = (),
    grammar: str | None = None,
    shown: Collection[str] = (),
) -> GenerateRequest:
    """`request` as an engine takes it: what it leaves open is as `settings` say.

    `stops` are where an answer to this prompt ends anyway, `grammar` what it is held to, and `shown`
    the control tokens that are part of its text.
    """
    return GenerateRequest(
        prompt=prompt,
        sampling=_filled(request.sampling, settings.sampling),
        max_tokens=request.max_tokens,
        max_tokens_default=settings.max_tokens,
        # Without duplicates, in this order, so that one request is always the same request.
        stop=tuple(dict.fromkeys((*request.stop, *settings.stop, *stops))),
        ignore_eos=request.ignore_eos,
        choices=request.choices,
        top_logprobs=request.top_logprobs,
        grammar=grammar or "",
        shown=tuple(sorted(shown)),
        suffix=request.suffix or None,
        is_echoed=request.is_echoed,
        resume=request.resume,
    )


def _filled(sampling: Sampling, defaults: Sampling) -> FilledSampling:
    """What the request says; else what the model does; else as in llama.cpp."""
    said: dict[str, Any] = {}
    for source in (defaults, sampling):
        values = ((each.name, getattr(source, each.name)) for each in fields(source))
        said.update((name, value) for name, value in values if value is not None)
    return FilledSampling(**said)
