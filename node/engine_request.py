"""What a request asks of an engine: checked, with the model's own defaults filled in.

What arrives may come from a peer of any version, so values are checked here again,
where they are about to be used: some abort llama.cpp instead of failing.

Pure.
"""

from __future__ import annotations

import math

from federation.backend import InferenceRequest, Sampling
from federation.errors import BadRequest
from node.engine.wire import GenerateRequest, PromptPart
from node.models.model_yaml import ModelSettings

_STOPS_MAX = 64
"""Sixteen times what OpenAI allows; each is compared with every piece of text."""

_STOP_LENGTH_MAX = 1024
"""Characters: that much text may be held back while a stop string forms."""

_TOKEN_ID_MAX = 2**31 - 1
"""What llama.cpp can hold; the engine knows the model's vocabulary."""


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
    _require_sane(request.sampling)


def _require_sane(sampling: Sampling) -> None:
    for name, value, maximum in (
        ("temperature", sampling.temperature, 100.0),
        ("top_p", sampling.top_p, 1.0),
        ("min_p", sampling.min_p, 1.0),
        ("top_k", sampling.top_k, _TOKEN_ID_MAX),
    ):
        if value is not None and not 0 <= value <= maximum:
            raise BadRequest(f"{name} must be from 0 to {maximum:g}", param=name)


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


def engine_request(
    request: InferenceRequest,
    settings: ModelSettings,
    prompt: tuple[PromptPart, ...] | tuple[int, ...],
    stops: tuple[str, ...] = (),
) -> GenerateRequest:
    """`request` as an engine takes it: what it leaves open is as `settings` say.

    `stops` are where an answer to this prompt ends anyway.
    """
    return GenerateRequest(
        prompt=prompt,
        sampling=_filled(request.sampling, settings.sampling),
        max_tokens=request.max_tokens if request.max_tokens is not None else settings.max_tokens,
        # Without duplicates, in this order, so that one request is always the same request.
        stop=tuple(dict.fromkeys((*request.stop, *settings.stop, *stops))),
        ignore_eos=request.ignore_eos,
    )


def _filled(sampling: Sampling, defaults: Sampling) -> Sampling:
    return Sampling(
        temperature=defaults.temperature if sampling.temperature is None else sampling.temperature,
        top_k=defaults.top_k if sampling.top_k is None else sampling.top_k,
        top_p=defaults.top_p if sampling.top_p is None else sampling.top_p,
        min_p=defaults.min_p if sampling.min_p is None else sampling.min_p,
        seed=defaults.seed if sampling.seed is None else sampling.seed,
    )
