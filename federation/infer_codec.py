"""The messages of `infer.py` as maps, and back.

Every map has `kind`; the numbers are append-only. A field that is None is left out.
Decoding takes anything and raises `BadFrame` only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, TypeVar, get_args

from federation.backend import (
    Chunk,
    Done,
    FinishReason,
    InferenceRequest,
    Progress,
    RequestId,
    RequestKind,
    Sampling,
    Timings,
    Usage,
)
from federation.errors import RefusalReason
from federation.fields import Fields
from federation.infer import (
    CREDIT_MAX,
    TIMEOUT_MAX,
    Accepted,
    Credit,
    Failure,
    FrontMessage,
    Refusal,
    Request,
    WorkerMessage,
)
from ledger.records import Load, ModelName
from p2p.errors import BadFrame

_TOKEN_ID_MAX = 2**31 - 1
"""llama.cpp's token ids are 32-bit and signed."""
_TOKENS_MAX = 2**24
"""Tokens in one request or answer: sixteen times the longest context there is."""
_NAME_LENGTH_MAX = 256
"""Characters of a model's name, a request's id, a field's name."""
_MESSAGE_LENGTH_MAX = 4096
"""Characters of a text for a person."""
_MESSAGES_MAX = 16_384
"""Messages of one chat; each takes some tokens of a context that has at most millions."""
_STOPS_MAX = 64
"""OpenAI allows 4; model files with their own lists have a dozen."""
_STOP_LENGTH_MAX = 1024
"""Characters. The worker holds back that much text while a stop string may be forming."""
_CHUNK_LENGTH_MAX = 64 * 1024
"""Characters of a chunk; the longest token has 256 bytes, the longest text held back 1024 characters."""
_CHUNK_TOKENS_MAX = 4096
"""Token ids of a chunk, likewise far above what an honest worker sends."""
_CHOICES_MAX = 128
"""OpenAI's limit on `n`."""
_COUNT_MAX = 2**31 - 1
"""Of slots, of waiting requests, of a priority: anything that is a count fits."""
_SEED_MIN, _SEED_MAX = -(2**63), 2**64 - 1
"""What msgpack can carry."""
_SECONDS_MAX = 10 * TIMEOUT_MAX
"""Of a timing."""
_SAMPLING_MAX = 1e6
"""Of a sampling number; the worker has the true limits, and words for them."""

_REQUEST_KINDS: dict[str, RequestKind] = {kind: kind for kind in get_args(RequestKind)}
_REFUSAL_REASONS: dict[str, RefusalReason] = {reason: reason for reason in get_args(RefusalReason)}
_FINISH_REASONS: dict[str, FinishReason] = {reason: reason for reason in get_args(FinishReason)}

T = TypeVar("T")


class _Kind(IntEnum):
    REQUEST = 1
    ACCEPTED = 2
    CHUNK = 3
    PROGRESS = 4
    DONE = 5
    REFUSED = 6
    FAILED = 7
    CREDIT = 8


def encode(message: FrontMessage | WorkerMessage) -> dict[str, Any]:
    """`message` as a map for one frame."""
    match message:
        case Chunk(choice, token_ids, text):
            return {"kind": _Kind.CHUNK.value, "choice": choice, "token_ids": token_ids, "text": text}
        case Credit(count):
            return {"kind": _Kind.CREDIT.value, "count": count}
        case Progress(prefilled, total):
            return {"kind": _Kind.PROGRESS.value, "prefilled": prefilled, "total": total}
        case Request(request, credit):
            return {"kind": _Kind.REQUEST.value, "credit": credit, "request": _request_map(request)}
        case Accepted(prompt_sha256, prompt_tokens):
            return {
                "kind": _Kind.ACCEPTED.value,
                "prompt_sha256": prompt_sha256,
                "prompt_tokens": prompt_tokens,
            }
        case Done():
            return _present({"kind": _Kind.DONE.value, **_done_map(message)})
        case Refusal(reason, text, param, load):
            said = {"reason": reason, "message": text[:_MESSAGE_LENGTH_MAX], "param": param}
            return _present({"kind": _Kind.REFUSED.value, **said, "load": _load_map(load)})
        case Failure(text, load):
            said = {"message": text[:_MESSAGE_LENGTH_MAX]}
            return _present({"kind": _Kind.FAILED.value, **said, "load": _load_map(load)})


def decode_from_front_untrusted(values: Mapping[str, Any]) -> FrontMessage:
    """What a front sent.

    Raises:
      BadFrame: it is none of the messages a front may send.
    """
    fields = Fields(values)
    match fields.whole("kind", 0, _COUNT_MAX):
        case _Kind.REQUEST:
            return Request(_request(fields.fields("request")), fields.whole("credit", 1, CREDIT_MAX))
        case _Kind.CREDIT:
            return Credit(fields.whole("count", 1, CREDIT_MAX))
        case kind:
            raise BadFrame(f"kind {kind} from a front")


def decode_from_worker_untrusted(values: Mapping[str, Any]) -> WorkerMessage:
    """What a worker sent.

    Raises:
      BadFrame: it is none of the messages a worker may send.
    """
    fields = Fields(values)
    decode = _FROM_WORKER.get(fields.whole("kind", 0, _COUNT_MAX))
    if decode is None:
        raise BadFrame(f"kind {values['kind']} from a worker")
    return decode(fields)


def _request_map(request: InferenceRequest) -> dict[str, Any]:
    sampling = request.sampling
    return _present(
        {
            "kind": request.kind,
            "request_id": request.request_id,
            "model": request.model,
            "messages": [dict(message) for message in request.messages],
            "prompt": request.prompt if isinstance(request.prompt, str) else list(request.prompt),
            "sampling": _present(
                {
                    "temperature": sampling.temperature,
                    "top_k": sampling.top_k,
                    "top_p": sampling.top_p,
                    "min_p": sampling.min_p,
                    "seed": sampling.seed,
                }
            ),
            "max_tokens": request.max_tokens,
            "stop": list(request.stop),
            "ignore_eos": request.ignore_eos,
            "timeout": min(request.timeout, TIMEOUT_MAX),
            "priority": request.priority,
        }
    )


def _request(fields: Fields) -> InferenceRequest:
    return InferenceRequest(
        kind=_known(_REQUEST_KINDS, fields.text("kind", _NAME_LENGTH_MAX)),
        request_id=RequestId(fields.text("request_id", _NAME_LENGTH_MAX)),
        model=ModelName(fields.text("model", _NAME_LENGTH_MAX)),
        messages=fields.maps("messages", _MESSAGES_MAX),
        prompt=_prompt(fields),
        sampling=_sampling(fields.fields("sampling")),
        max_tokens=_optional_whole(fields, "max_tokens", _TOKENS_MAX),
        stop=fields.texts("stop", _STOPS_MAX, _STOP_LENGTH_MAX),
        ignore_eos=fields.flag("ignore_eos"),
        timeout=fields.number("timeout", 0, TIMEOUT_MAX),
        priority=fields.whole("priority", -_COUNT_MAX, _COUNT_MAX),
    )


def _prompt(fields: Fields) -> str | tuple[int, ...]:
    if fields.is_list("prompt"):
        return fields.wholes("prompt", _TOKENS_MAX, _TOKEN_ID_MAX)
    # The frame is the limit of a text.
    return fields.text("prompt", _TOKENS_MAX)


def _sampling(fields: Fields) -> Sampling:
    return Sampling(
        temperature=_optional_number(fields, "temperature"),
        top_k=_optional_whole(fields, "top_k", _COUNT_MAX),
        top_p=_optional_number(fields, "top_p"),
        min_p=_optional_number(fields, "min_p"),
        seed=fields.whole("seed", _SEED_MIN, _SEED_MAX) if "seed" in fields else None,
    )


def _accepted(fields: Fields) -> Accepted:
    return Accepted(fields.data("prompt_sha256", 32), fields.whole("prompt_tokens", 0, _TOKENS_MAX))


def _chunk(fields: Fields) -> Chunk:
    return Chunk(
        choice=fields.whole("choice", 0, _CHOICES_MAX - 1),
        token_ids=fields.wholes("token_ids", _CHUNK_TOKENS_MAX, _TOKEN_ID_MAX),
        text=fields.text("text", _CHUNK_LENGTH_MAX),
    )


def _progress(fields: Fields) -> Progress:
    return Progress(fields.whole("prefilled", 0, _TOKENS_MAX), fields.whole("total", 0, _TOKENS_MAX))


def _done_map(done: Done) -> dict[str, Any]:
    usage, timings = done.usage, done.timings
    return {
        "finish_reasons": list(done.finish_reasons),
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cached_tokens": usage.cached_tokens,
        },
        "timings": {"queue": timings.queue, "prefill": timings.prefill, "decode": timings.decode},
        "load": _load_map(done.load),
    }


def _done(fields: Fields) -> Done:
    finish_reasons = fields.texts("finish_reasons", _CHOICES_MAX, _NAME_LENGTH_MAX)
    usage, timings = fields.fields("usage"), fields.fields("timings")
    return Done(
        finish_reasons=tuple(_known(_FINISH_REASONS, reason) for reason in finish_reasons),
        usage=Usage(
            prompt_tokens=usage.whole("prompt_tokens", 0, _TOKENS_MAX),
            completion_tokens=usage.whole("completion_tokens", 0, _TOKENS_MAX),
            cached_tokens=usage.whole("cached_tokens", 0, _TOKENS_MAX),
        ),
        timings=Timings(
            queue=timings.number("queue", 0, _SECONDS_MAX),
            prefill=timings.number("prefill", 0, _SECONDS_MAX),
            decode=timings.number("decode", 0, _SECONDS_MAX),
        ),
        load=_load(fields),
    )


def _refusal(fields: Fields) -> Refusal:
    return Refusal(
        reason=_known(_REFUSAL_REASONS, fields.text("reason", _NAME_LENGTH_MAX)),
        message=fields.text("message", _MESSAGE_LENGTH_MAX),
        param=fields.text("param", _NAME_LENGTH_MAX) if "param" in fields else None,
        load=_load(fields),
    )


def _failure(fields: Fields) -> Failure:
    return Failure(fields.text("message", _MESSAGE_LENGTH_MAX), _load(fields))


def _load_map(load: Load | None) -> dict[str, int] | None:
    if load is None:
        return None
    return {"slots_total": load.slots_total, "slots_busy": load.slots_busy, "queued": load.queued}


def _load(fields: Fields) -> Load | None:
    if "load" not in fields:
        return None
    load = fields.fields("load")
    return Load(
        slots_total=load.whole("slots_total", 0, _COUNT_MAX),
        slots_busy=load.whole("slots_busy", 0, _COUNT_MAX),
        queued=load.whole("queued", 0, _COUNT_MAX),
    )


def _known(values: dict[str, T], text: str) -> T:
    if text not in values:
        raise BadFrame(f"{text!r} is none of {', '.join(values)}")
    return values[text]


def _optional_whole(fields: Fields, name: str, high: int) -> int | None:
    return fields.whole(name, 0, high) if name in fields else None


def _optional_number(fields: Fields, name: str) -> float | None:
    return fields.number(name, 0, _SAMPLING_MAX) if name in fields else None


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


_FROM_WORKER: dict[int, Callable[[Fields], WorkerMessage]] = {
    _Kind.ACCEPTED: _accepted,
    _Kind.CHUNK: _chunk,
    _Kind.PROGRESS: _progress,
    _Kind.DONE: _done,
    _Kind.REFUSED: _refusal,
    _Kind.FAILED: _failure,
}
