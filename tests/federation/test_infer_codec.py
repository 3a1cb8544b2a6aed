"""The infer protocol's maps: what goes out comes back, and nothing else gets in."""

from __future__ import annotations

from typing import Any

import pytest

from federation.backend import Chunk, Done, InferenceRequest, Progress, RequestId, Sampling, Timings, Usage
from federation.infer import (
    CREDIT_MAX,
    FRAME_SIZE_MAX,
    Accepted,
    Credit,
    Failure,
    FrontMessage,
    Refusal,
    Request,
    WorkerMessage,
)
from federation.infer_codec import decode_from_front_untrusted, decode_from_worker_untrusted, encode
from ledger.records import Load, ModelName
from p2p.errors import BadFrame
from p2p.framing import FrameDecoder, encode_frame

FULL_REQUEST = InferenceRequest(
    kind="chat",
    request_id=RequestId("r-1"),
    model=ModelName("tiny"),
    messages=({"role": "user", "content": "Grüße 🙂"}, {"role": "assistant", "content": ""}),
    prompt=(1, 2, 70_000),
    sampling=Sampling(temperature=0.5, top_k=40, top_p=0.9, min_p=0.05, seed=-3),
    max_tokens=16,
    stop=("\n\n", "END"),
    ignore_eos=True,
    timeout=12.5,
    priority=-1,
)
PLAIN_REQUEST = InferenceRequest(
    kind="completion", request_id=RequestId("r-2"), model=ModelName("tiny"), prompt="Once"
)
LOAD = Load(slots_total=4, slots_busy=2, queued=1, prefill_speed=512.5, decode_speed=41.0, is_loaded=True)

FROM_FRONT: list[FrontMessage] = [Request(FULL_REQUEST, 7), Request(PLAIN_REQUEST), Credit(16)]
FROM_WORKER: list[WorkerMessage] = [
    Accepted(bytes(range(32)), 9),
    Chunk(0, (1, 2), "two tokens"),
    Chunk(1, (5,), ""),
    Progress(128, 512),
    Done(("length", "stop"), Usage(9, 3, 2), Timings(0.1, 0.25, 2), LOAD),
    Done(("stop",), Usage(9, 3), Timings()),
    Refusal("bad_request", "top_k is wrong", "top_k", LOAD),
    Refusal("busy", "no slot"),
    Failure("the engine died", LOAD),
    Failure("the engine died"),
]


def over_the_wire(message: FrontMessage | WorkerMessage) -> dict[str, Any]:
    (values,) = FrameDecoder(FRAME_SIZE_MAX).feed_untrusted(encode_frame(encode(message), FRAME_SIZE_MAX))
    return values


@pytest.mark.parametrize("message", FROM_FRONT)
def test_what_a_front_says_arrives_unchanged(message: FrontMessage) -> None:
    assert decode_from_front_untrusted(over_the_wire(message)) == message


@pytest.mark.parametrize("message", FROM_WORKER)
def test_what_a_worker_says_arrives_unchanged(message: WorkerMessage) -> None:
    assert decode_from_worker_untrusted(over_the_wire(message)) == message


@pytest.mark.parametrize("message", FROM_WORKER)
def test_fields_of_a_later_version_are_ignored(message: WorkerMessage) -> None:
    assert decode_from_worker_untrusted({**over_the_wire(message), "later": {"a": [1]}}) == message


@pytest.mark.parametrize("message", FROM_WORKER)
def test_a_front_may_not_speak_as_a_worker(message: WorkerMessage) -> None:
    with pytest.raises(BadFrame):
        decode_from_front_untrusted(over_the_wire(message))


@pytest.mark.parametrize(
    "values", [{}, {"kind": 0}, {"kind": 99}, {"kind": "3"}, {"kind": True}, {"kind": None}]
)
def test_unknown_kinds_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(BadFrame):
        decode_from_front_untrusted(values)
    with pytest.raises(BadFrame):
        decode_from_worker_untrusted(values)


def test_a_number_is_never_taken_for_a_truth_nor_the_reverse() -> None:
    values = over_the_wire(Request(PLAIN_REQUEST))
    values["request"]["ignore_eos"] = 1
    with pytest.raises(BadFrame, match="ignore_eos"):
        decode_from_front_untrusted(values)
    with pytest.raises(BadFrame, match="count"):
        decode_from_front_untrusted({"kind": 8, "count": True})


def test_credit_has_a_limit() -> None:
    with pytest.raises(BadFrame, match="count"):
        decode_from_front_untrusted(encode(Credit(CREDIT_MAX + 1)))


def test_a_longer_wait_than_anybody_has_is_cut_not_refused() -> None:
    patient = InferenceRequest("chat", RequestId("r"), ModelName("tiny"), timeout=1e9)
    message = decode_from_front_untrusted(encode(Request(patient)))
    assert isinstance(message, Request)
    assert message.request.timeout == 86_400
