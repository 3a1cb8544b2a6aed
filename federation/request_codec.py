"""An `InferenceRequest` as a map, and back.

The bounds here keep a peer from sending nonsense; whether a model can do what is asked
is the worker's to say, in words for the client.

Fields that the first version did not have are said where they differ from their default, and an older
front says none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args

from federation.backend import (
    Constraint,
    ConstraintKind,
    Delivered,
    InferenceRequest,
    RequestId,
    RequestKind,
    Resume,
    Sampling,
)
from federation.chunk_codec import optional_finish_reason
from federation.infer import COUNT_MAX, FRAME_SIZE_MAX, NAME_LENGTH_MAX, TOKEN_ID_MAX, TOKENS_MAX
from federation.request_limits import (
    CHOICES_MAX,
    CONSTRAINT_LENGTH_MAX,
    INPUTS_MAX,
    LOGIT_BIAS_MAX,
    MESSAGE_VALUES_MAX,
    NESTED_VALUES_MAX,
    TIMEOUT_MAX,
    TOOLS_MAX,
    TOP_LOGPROBS_MAX,
    require_portable,
)
from ledger.records import ModelName
from p2p.errors import BadFrame
from p2p.fields import Fields

_MESSAGES_MAX = 16_384
"""Messages of one chat; each takes some tokens of a context that has at most millions."""
_STOPS_MAX = 64
"""OpenAI allows 4; model files with their own lists have a dozen."""
_STOP_LENGTH_MAX = 1024
"""Characters. The worker holds back that much text while a stop string may be forming."""
_SEED_MIN, _SEED_MAX = -(2**63), 2**64 - 1
"""What msgpack can carry."""
_SAMPLING_MAX = 1e6
"""Of a sampling number, and below 0 likewise; the worker has the true limits, and words for them."""

_KINDS: tuple[RequestKind, ...] = get_args(RequestKind)
_CONSTRAINTS: tuple[ConstraintKind, ...] = get_args(ConstraintKind)

_LATER: Mapping[str, Any] = {
    "choices": 1,
    "top_logprobs": None,
    "constraint": None,
    "suffix": "",
    "is_echoed": False,
    "tools": [],
    "tool_choice": "auto",
    "allows_parallel_tool_calls": True,
    "inputs": [],
    "adds_special": False,
    "resume": None,
    "is_begun": False,
}
"""Fields that the first version did not have, with what their absence means."""


def encode_request(request: InferenceRequest) -> dict[str, Any]:
    """`request` as a map."""
    return {
        "kind": request.kind,
        "request_id": request.request_id,
        "model": request.model,
        "messages": [dict(message) for message in request.messages],
        "prompt": _prompt_value(request.prompt),
        "sampling": _sampling_map(request.sampling),
        "max_tokens": request.max_tokens,
        "stop": list(request.stop),
        "ignore_eos": request.ignore_eos,
        "timeout": min(request.timeout, TIMEOUT_MAX),
        "priority": request.priority,
        **{name: value for name, value in _later(request).items() if value != _LATER[name]},
    }


def decode_request_untrusted(fields: Fields) -> InferenceRequest:
    """The request in `fields`.

    Raises:
      BadFrame: there is none.
    """
    later = fields.over(_LATER)
    return InferenceRequest(
        kind=fields.word("kind", _KINDS),
        request_id=RequestId(fields.text("request_id", NAME_LENGTH_MAX)),
        model=ModelName(fields.text("model", NAME_LENGTH_MAX)),
        messages=_portable_maps(fields, "messages", _MESSAGES_MAX, MESSAGE_VALUES_MAX),
        prompt=_prompt(fields),
        inputs=tuple(_prompt(Fields(each)) for each in later.maps("inputs", INPUTS_MAX)),
        adds_special=later.flag("adds_special"),
        sampling=_sampling(fields.fields("sampling")),
        max_tokens=fields.whole("max_tokens", 0, COUNT_MAX) if "max_tokens" in fields else None,
        stop=fields.texts("stop", _STOPS_MAX, _STOP_LENGTH_MAX),
        ignore_eos=fields.flag("ignore_eos"),
        choices=later.whole("choices", 1, CHOICES_MAX),
        top_logprobs=later.whole("top_logprobs", 0, TOP_LOGPROBS_MAX) if "top_logprobs" in later else None,
        constraint=_constraint(later.fields("constraint")) if "constraint" in later else None,
        suffix=later.text("suffix", FRAME_SIZE_MAX),
        is_echoed=later.flag("is_echoed"),
        tools=_portable_maps(later, "tools", TOOLS_MAX, NESTED_VALUES_MAX),
        tool_choice=later.text("tool_choice", NAME_LENGTH_MAX),
        allows_parallel_tool_calls=later.flag("allows_parallel_tool_calls"),
        resume=_resume(later.fields("resume")) if "resume" in later else None,
        is_begun=later.flag("is_begun"),
        timeout=fields.number("timeout", 0, TIMEOUT_MAX),
        priority=fields.whole("priority", -COUNT_MAX, COUNT_MAX),
    )


def _later(request: InferenceRequest) -> dict[str, Any]:
    constraint, resume = request.constraint, request.resume
    return {
        "choices": request.choices,
        "top_logprobs": request.top_logprobs,
        "constraint": constraint and {"kind": constraint.kind, "text": constraint.text},
        "suffix": request.suffix,
        "is_echoed": request.is_echoed,
        "tools": [dict(tool) for tool in request.tools],
        "tool_choice": request.tool_choice,
        "allows_parallel_tool_calls": request.allows_parallel_tool_calls,
        "inputs": [{"prompt": _prompt_value(each)} for each in request.inputs],
        "adds_special": request.adds_special,
        "resume": resume
        and {
            "prompt_sha256": resume.prompt_sha256,
            "choices": [_delivered_map(each) for each in resume.choices],
            "is_replayed": resume.is_replayed,
        },
        "is_begun": request.is_begun,
    }


def _portable_maps(fields: Fields, name: str, count_max: int, values_max: int) -> tuple[dict[str, Any], ...]:
    maps = fields.maps(name, count_max)
    try:
        require_portable(maps, values_max)
    except ValueError as error:
        raise BadFrame(f"{name} cannot be used: {error}") from error
    return maps


def _prompt_value(prompt: str | Sequence[int]) -> str | list[int]:
    return prompt if isinstance(prompt, str) else list(prompt)


def _prompt(fields: Fields) -> str | tuple[int, ...]:
    if fields.is_list("prompt"):
        return fields.wholes("prompt", TOKENS_MAX, TOKEN_ID_MAX)
    # As long as a frame can be.
    return fields.text("prompt", FRAME_SIZE_MAX)


def _constraint(fields: Fields) -> Constraint:
    return Constraint(fields.word("kind", _CONSTRAINTS), fields.text("text", CONSTRAINT_LENGTH_MAX))


def _resume(fields: Fields) -> Resume:
    return Resume(
        prompt_sha256=fields.data("prompt_sha256", 32),
        choices=tuple(_delivered(Fields(choice)) for choice in fields.maps("choices", CHOICES_MAX)),
        is_replayed=fields.over({"is_replayed": False}).flag("is_replayed"),
    )


def _delivered_map(delivered: Delivered) -> dict[str, Any]:
    said: dict[str, Any] = {"token_ids": list(delivered.token_ids)}
    return said if delivered.finish_reason is None else {**said, "finish_reason": delivered.finish_reason}


def _delivered(fields: Fields) -> Delivered:
    return Delivered(
        fields.wholes("token_ids", TOKENS_MAX, TOKEN_ID_MAX),
        optional_finish_reason(fields),
    )


def _sampling_map(sampling: Sampling) -> dict[str, Any]:
    said = {name: value for name, value in asdict(sampling).items() if value is not None}
    if sampling.logit_bias is not None:
        # As a list, because keys of a map are text.
        said["logit_bias"] = [[token, bias] for token, bias in sampling.logit_bias.items()]
    return said


def _sampling(fields: Fields) -> Sampling:
    return Sampling(
        temperature=_number(fields, "temperature"),
        top_k=fields.whole("top_k", 0, COUNT_MAX) if "top_k" in fields else None,
        top_p=_number(fields, "top_p"),
        min_p=_number(fields, "min_p"),
        typical_p=_number(fields, "typical_p"),
        repeat_penalty=_number(fields, "repeat_penalty"),
        repeat_last_n=fields.whole("repeat_last_n", -1, COUNT_MAX) if "repeat_last_n" in fields else None,
        presence_penalty=_number(fields, "presence_penalty", low=-_SAMPLING_MAX),
        frequency_penalty=_number(fields, "frequency_penalty", low=-_SAMPLING_MAX),
        logit_bias=_logit_bias(fields) if "logit_bias" in fields else None,
        seed=fields.whole("seed", _SEED_MIN, _SEED_MAX) if "seed" in fields else None,
    )


def _number(fields: Fields, name: str, low: float = 0.0) -> float | None:
    return fields.number(name, low, _SAMPLING_MAX) if name in fields else None


def _logit_bias(fields: Fields) -> dict[int, float]:
    return {
        row.whole("token", 0, TOKEN_ID_MAX): row.number("bias", -_SAMPLING_MAX, _SAMPLING_MAX)
        for row in fields.rows("logit_bias", LOGIT_BIAS_MAX, ("token", "bias"))
    }
