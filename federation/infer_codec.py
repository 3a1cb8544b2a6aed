"""The messages of `infer.py` as maps, and back.

Every map has `kind`; the numbers are append-only. An absent field and a nil one are the same.
Fields that the first version did not have are said where they differ from their default, and may be absent.
Decoding takes anything and raises `BadFrame` only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from enum import IntEnum
from typing import Any, get_args

from federation.backend import Chunk, Done, Progress, Timings, Usage
from federation.chunk_codec import decode_chunk_untrusted, encode_chunk, finish_reason
from federation.errors import RefusalReason
from federation.infer import (
    COUNT_MAX,
    CREDIT_MAX,
    MARK_MAX,
    NAME_LENGTH_MAX,
    TOKENS_MAX,
    Accepted,
    Credit,
    Failure,
    FrontMessage,
    Refusal,
    Request,
    WorkerMessage,
)
from federation.request_codec import decode_request_untrusted, encode_request
from federation.request_limits import CHOICES_MAX, TIMEOUT_MAX
from ledger.probe import SPEED_MAX
from ledger.records import Load
from p2p.errors import BadFrame
from p2p.fields import Fields

_MESSAGE_LENGTH_MAX = 4096
"""Characters of a text for a person."""
_SECONDS_MAX = 10 * TIMEOUT_MAX
"""Of a timing."""

_REFUSAL_REASONS: tuple[RefusalReason, ...] = get_args(RefusalReason)


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
        case Chunk():
            return {"kind": _Kind.CHUNK.value, **encode_chunk(message)}
        case Credit(count):
            return {"kind": _Kind.CREDIT.value, "count": count}
        case Progress(prefilled, total):
            return {"kind": _Kind.PROGRESS.value, "prefilled": prefilled, "total": total}
        case Request(request, credit, mark):
            return {
                "kind": _Kind.REQUEST.value,
                "credit": credit,
                "request": encode_request(request),
                **_mark_field(mark),
            }
        case Accepted(prompt_sha256, prompt_tokens, mark):
            return {
                "kind": _Kind.ACCEPTED.value,
                "prompt_sha256": prompt_sha256,
                "prompt_tokens": prompt_tokens,
                **_mark_field(mark),
            }
        case Done(finish_reasons, usage, timings, load):
            return {
                "kind": _Kind.DONE.value,
                "finish_reasons": finish_reasons,
                "usage": asdict(usage),
                "timings": asdict(timings),
                "load": _load_map(load),
            }
        case Refusal(reason, text, param, load, mark):
            return {
                "kind": _Kind.REFUSED.value,
                "reason": reason,
                "message": text[:_MESSAGE_LENGTH_MAX],
                "param": param,
                "load": _load_map(load),
                **_mark_field(mark),
            }
        case Failure(text, load, is_bad_request, param):
            return {
                "kind": _Kind.FAILED.value,
                "message": text[:_MESSAGE_LENGTH_MAX],
                "load": _load_map(load),
                "is_bad_request": is_bad_request,
                "param": param,
            }


def decode_from_front_untrusted(values: Mapping[str, Any]) -> FrontMessage:
    """What a front sent.

    Raises:
      BadFrame: it is none of the messages a front may send.
    """
    fields = Fields(values)
    match fields.whole("kind", 0, COUNT_MAX):
        case _Kind.REQUEST:
            request = decode_request_untrusted(fields.fields("request"))
            return Request(request, fields.whole("credit", 1, CREDIT_MAX), _mark(fields))
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
    decode = _FROM_WORKER.get(fields.whole("kind", 0, COUNT_MAX))
    if decode is None:
        raise BadFrame(f"kind {values['kind']} from a worker")
    return decode(fields)


def _accepted(fields: Fields) -> Accepted:
    return Accepted(
        fields.data("prompt_sha256", 32), fields.whole("prompt_tokens", 0, TOKENS_MAX), _mark(fields)
    )


def _progress(fields: Fields) -> Progress:
    return Progress(fields.whole("prefilled", 0, TOKENS_MAX), fields.whole("total", 0, TOKENS_MAX))


def _done(fields: Fields) -> Done:
    usage, timings = fields.fields("usage"), fields.fields("timings")
    return Done(
        finish_reasons=tuple(
            map(finish_reason, fields.texts("finish_reasons", CHOICES_MAX, NAME_LENGTH_MAX))
        ),
        usage=Usage(
            prompt_tokens=usage.whole("prompt_tokens", 0, TOKENS_MAX),
            completion_tokens=usage.whole("completion_tokens", 0, TOKENS_MAX),
            cached_tokens=usage.whole("cached_tokens", 0, TOKENS_MAX),
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
        reason=fields.word("reason", _REFUSAL_REASONS),
        message=fields.text("message", _MESSAGE_LENGTH_MAX),
        param=_param(fields),
        load=_load(fields),
        mark=_mark(fields),
    )


def _failure(fields: Fields) -> Failure:
    return Failure(
        message=fields.text("message", _MESSAGE_LENGTH_MAX),
        load=_load(fields),
        is_bad_request="is_bad_request" in fields and fields.flag("is_bad_request"),
        param=_param(fields),
    )


def _mark_field(mark: int) -> dict[str, Any]:
    return {"mark": mark} if mark else {}


def _mark(fields: Fields) -> int:
    return fields.whole("mark", 1, MARK_MAX) if "mark" in fields else 0


def _param(fields: Fields) -> str | None:
    return fields.text("param", NAME_LENGTH_MAX) if "param" in fields else None


def _load_map(load: Load | None) -> dict[str, Any] | None:
    return None if load is None else asdict(load)


def _load(fields: Fields) -> Load | None:
    if "load" not in fields:
        return None
    load = fields.fields("load")
    return Load(
        slots_total=load.whole("slots_total", 0, COUNT_MAX),
        slots_busy=load.whole("slots_busy", 0, COUNT_MAX),
        queued=load.whole("queued", 0, COUNT_MAX),
        # Of a peer that does not say them yet: not measured, and for all we know not loaded.
        prefill_speed=load.number("prefill_speed", 0, SPEED_MAX) if "prefill_speed" in load else 0.0,
        decode_speed=load.number("decode_speed", 0, SPEED_MAX) if "decode_speed" in load else 0.0,
        is_loaded="is_loaded" in load and load.flag("is_loaded"),
    )


_FROM_WORKER: dict[int, Callable[[Fields], WorkerMessage]] = {
    _Kind.ACCEPTED: _accepted,
    _Kind.CHUNK: decode_chunk_untrusted,
    _Kind.PROGRESS: _progress,
    _Kind.DONE: _done,
    _Kind.REFUSED: _refusal,
    _Kind.FAILED: _failure,
}
