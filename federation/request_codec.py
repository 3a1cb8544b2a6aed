"""An `InferenceRequest` as a map, and back.

The bounds here keep a peer from sending nonsense; whether a model can do what is asked
is the worker's to say, in words for the client.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, get_args

from federation.backend import InferenceRequest, RequestId, RequestKind, Sampling
from federation.infer import COUNT_MAX, FRAME_SIZE_MAX, NAME_LENGTH_MAX, TIMEOUT_MAX, TOKEN_ID_MAX, TOKENS_MAX
from ledger.records import ModelName
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
"""Of a sampling number; the worker has the true limits, and words for them."""

_KINDS: tuple[RequestKind, ...] = get_args(RequestKind)


def encode_request(request: InferenceRequest) -> dict[str, Any]:
    """`request` as a map."""
    return {
        "kind": request.kind,
        "request_id": request.request_id,
        "model": request.model,
        "messages": [dict(message) for message in request.messages],
        "prompt": request.prompt if isinstance(request.prompt, str) else list(request.prompt),
        "sampling": asdict(request.sampling),
        "max_tokens": request.max_tokens,
        "stop": list(request.stop),
        "ignore_eos": request.ignore_eos,
        "timeout": min(request.timeout, TIMEOUT_MAX),
        "priority": request.priority,
    }


def decode_request_untrusted(fields: Fields) -> InferenceRequest:
    """The request in `fields`.

    Raises:
      BadFrame: there is none.
    """
    return InferenceRequest(
        kind=fields.word("kind", _KINDS),
        request_id=RequestId(fields.text("request_id", NAME_LENGTH_MAX)),
        model=ModelName(fields.text("model", NAME_LENGTH_MAX)),
        messages=fields.maps("messages", _MESSAGES_MAX),
        prompt=_prompt(fields),
        sampling=_sampling(fields.fields("sampling")),
        max_tokens=fields.whole("max_tokens", 0, COUNT_MAX) if "max_tokens" in fields else None,
        stop=fields.texts("stop", _STOPS_MAX, _STOP_LENGTH_MAX),
        ignore_eos=fields.flag("ignore_eos"),
        timeout=fields.number("timeout", 0, TIMEOUT_MAX),
        priority=fields.whole("priority", -COUNT_MAX, COUNT_MAX),
    )


def _prompt(fields: Fields) -> str | tuple[int, ...]:
    if fields.is_list("prompt"):
        return fields.wholes("prompt", TOKENS_MAX, TOKEN_ID_MAX)
    # As long as a frame can be.
    return fields.text("prompt", FRAME_SIZE_MAX)


def _sampling(fields: Fields) -> Sampling:
    return Sampling(
        temperature=_optional_number(fields, "temperature"),
        top_k=fields.whole("top_k", 0, COUNT_MAX) if "top_k" in fields else None,
        top_p=_optional_number(fields, "top_p"),
        min_p=_optional_number(fields, "min_p"),
        seed=fields.whole("seed", _SEED_MIN, _SEED_MAX) if "seed" in fields else None,
    )


def _optional_number(fields: Fields, name: str) -> float | None:
    return fields.number(name, 0, _SAMPLING_MAX) if name in fields else None
