"""The infer protocol's maps: what goes out comes back, and nothing else gets in."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.backend import (
    Chunk,
    Constraint,
    ConstraintKind,
    Delivered,
    Done,
    FinishReason,
    InferenceRequest,
    Progress,
    RequestId,
    RequestKind,
    Resume,
    Sampling,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from federation.infer import (
    CREDIT_MAX,
    FRAME_SIZE_MAX,
    MARK_MAX,
    Accepted,
    Credit,
    Failure,
    FrontMessage,
    Refusal,
    Request,
    WorkerMessage,
)
from federation.infer_codec import decode_from_front_untrusted, decode_from_worker_untrusted, encode
from federation.request_limits import (
    CHOICES_MAX,
    CONSTRAINT_LENGTH_MAX,
    INPUTS_MAX,
    NESTED_DEPTH_MAX,
    NESTED_VALUES_MAX,
    require_portable,
)
from ledger.records import Load, ModelName
from p2p.errors import BadFrame
from p2p.framing import FrameDecoder, encode_frame

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "strict": True}}}
WHOLE_REQUEST = InferenceRequest(
    kind="chat",
    request_id=RequestId("r-0"),
    model=ModelName("tiny"),
    messages=({"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function"}]},),
    sampling=Sampling(
        typical_p=0.9,
        repeat_penalty=1.1,
        repeat_last_n=-1,
        presence_penalty=-2.0,
        frequency_penalty=2.0,
        logit_bias={7: -100.0, 8: 0.5},
    ),
    choices=3,
    top_logprobs=0,
    constraint=Constraint("json_schema", '{"type": "object"}'),
    suffix="the end",
    is_echoed=True,
    tools=(TOOL,),
    tool_choice="function:f",
    allows_parallel_tool_calls=False,
    inputs=("text", (1, 2)),
    adds_special=True,
    resume=Resume(bytes(32), (Delivered((1, 2), "stop"), Delivered()), is_replayed=True),
    is_begun=True,
)
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

FROM_FRONT: list[FrontMessage] = [
    Request(WHOLE_REQUEST),
    Request(FULL_REQUEST, 7),
    Request(PLAIN_REQUEST),
    Request(PLAIN_REQUEST, mark=MARK_MAX),
    Credit(16),
]
FROM_WORKER: list[WorkerMessage] = [
    Accepted(bytes(range(32)), 9),
    Accepted(bytes(32), 0, mark=1),
    Refusal("draining", "going", mark=MARK_MAX),
    Chunk(0, (1, 2), "two tokens"),
    Chunk(1, (5,), ""),
    Chunk(
        0,
        (1, 2),
        "text",
        reasoning="thought",
        tool_calls=(ToolCallDelta(0, "c", "f", "{"), ToolCallDelta(1, arguments="}")),
        logprobs=(TokenLogprob(b"\xf0\x9f", -0.5, ((b"a", -0.5), (b"", -9.0))), TokenLogprob(b"", 0.0)),
    ),
    Chunk(2047, (), "", vector=bytes(range(16))),
    Done((), Usage(9, 0), Timings()),
    Progress(128, 512),
    Done(("length", "stop"), Usage(9, 3, 2), Timings(0.1, 0.25, 2), LOAD),
    Done(("stop",), Usage(9, 3), Timings()),
    Refusal("bad_request", "top_k is wrong", "top_k", LOAD),
    Refusal("busy", "no slot"),
    Failure("the engine died", LOAD),
    Failure("the engine died"),
    Failure("too complex", LOAD, is_bad_request=True, param="grammar"),
]


def over_the_wire(message: FrontMessage | WorkerMessage) -> dict[str, Any]:
    (values,) = FrameDecoder(FRAME_SIZE_MAX).feed_untrusted(encode_frame(encode(message), FRAME_SIZE_MAX))
    return values


@pytest.mark.parametrize("message", FROM_FRONT)
def test_what_a_front_says_arrives_unchanged(message: FrontMessage) -> None:
    assert decode_from_front_untrusted(over_the_wire(message)) == message


@pytest.mark.parametrize("message", FROM_FRONT)
def test_what_a_front_would_say_can_be_checked_before_it_is_sent(message: FrontMessage) -> None:
    assert decode_from_front_untrusted(encode(message)) == message


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


FIRST_REQUEST = {
    "kind": "chat",
    "request_id": "r",
    "model": "tiny",
    "messages": [{"role": "user", "content": "Hi"}],
    "prompt": "",
    "sampling": {"temperature": None, "top_k": None, "top_p": None, "min_p": None, "seed": None},
    "max_tokens": None,
    "stop": [],
    "ignore_eos": False,
    "timeout": 600.0,
    "priority": 0,
}
"""As the first version's fronts say it."""


def test_a_request_of_the_first_version_means_the_defaults() -> None:
    message = decode_from_front_untrusted({"kind": 1, "credit": 32, "request": FIRST_REQUEST})
    assert message == Request(
        InferenceRequest(
            "chat", RequestId("r"), ModelName("tiny"), messages=({"role": "user", "content": "Hi"},)
        )
    )


def test_a_request_that_asks_for_nothing_new_is_said_as_the_first_version_did() -> None:
    said = over_the_wire(Request(PLAIN_REQUEST))["request"]
    assert said.keys() == FIRST_REQUEST.keys()
    assert said["sampling"] == {}


def test_a_chunk_of_the_first_version_means_the_defaults() -> None:
    values = {"kind": 3, "choice": 0, "token_ids": [1], "text": "a"}
    assert decode_from_worker_untrusted(values) == Chunk(0, (1,), "a")
    assert over_the_wire(Chunk(0, (1,), "a")) == values


def test_the_frame_of_a_token_stays_small() -> None:
    assert len(encode_frame(encode(Chunk(0, (48_000,), " Paris")), FRAME_SIZE_MAX)) < 50


def test_a_finish_reason_of_a_later_version_is_a_stop() -> None:
    done = over_the_wire(Done(("stop", "length"), Usage(1, 1), Timings()))
    done["finish_reasons"] = ["bored", "length"]
    message = decode_from_worker_untrusted(done)
    assert isinstance(message, Done)
    assert message.finish_reasons == ("stop", "length")


def test_what_cannot_happen_is_as_unlikely_as_a_number_says() -> None:
    never = Chunk(0, (1,), "a", logprobs=(TokenLogprob(b"a", -math.inf),))
    message = decode_from_worker_untrusted(over_the_wire(never))
    assert isinstance(message, Chunk)
    assert message.logprobs == (TokenLogprob(b"a", -1e6),)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("choices", 0),
        ("choices", CHOICES_MAX + 1),
        ("choices", True),
        ("top_logprobs", 21),
        ("constraint", {"kind": "poem", "text": ""}),
        ("constraint", {"kind": "gbnf", "text": "x" * (CONSTRAINT_LENGTH_MAX + 1)}),
        ("tools", [nested(NESTED_DEPTH_MAX)]),
        ("tools", [{"a": [0] * NESTED_VALUES_MAX}]),
        ("tools", [{"a": b"bytes"}]),
        ("tools", [{"a": {"b": math.nan}}]),
        ("tools", [{}] * 129),
        ("messages", [nested(NESTED_DEPTH_MAX)]),
        ("tool_choice", "x" * 257),
        ("inputs", [{"prompt": ""}] * (INPUTS_MAX + 1)),
        ("inputs", ["text"]),
        ("inputs", [{}]),
        ("inputs", [{"prompt": [-1]}]),
        ("adds_special", 1),
        ("resume", {"prompt_sha256": bytes(31), "choices": []}),
        ("resume", {"prompt_sha256": bytes(32), "choices": [[1]]}),
        ("resume", {"prompt_sha256": bytes(32), "choices": [{"token_ids": [1], "finish_reason": 7}]}),
        ("sampling", {"logit_bias": {"7": 1}}),
        ("sampling", {"logit_bias": [[7]]}),
        ("sampling", {"logit_bias": [[7, math.inf]]}),
        ("sampling", {"repeat_last_n": -2}),
    ],
)
def test_a_field_out_of_its_bounds_is_refused(field: str, value: Any) -> None:
    with pytest.raises(BadFrame):
        decode_from_front_untrusted({"kind": 1, "credit": 1, "request": {**FIRST_REQUEST, field: value}})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("choice", INPUTS_MAX),
        ("reasoning", "x" * 65_537),
        ("tool_calls", [[0, "id", "name"]]),
        ("tool_calls", [[-1, "", "", ""]]),
        ("tool_calls", [[0, "", "", ""]] * 65),
        ("logprobs", [[b"a"]]),
        ("logprobs", [["a", -1.0]]),
        ("logprobs", [[b"a", math.nan]]),
        ("logprobs", [[b"a", -1.0, [[b"b", -1.0]] * 21]]),
        ("vector", b"123"),
        ("vector", [0.5]),
        ("vector", bytes(65_540)),
    ],
)
def test_a_chunk_out_of_its_bounds_is_refused(field: str, value: Any) -> None:
    with pytest.raises(BadFrame):
        decode_from_worker_untrusted({"kind": 3, "choice": 0, "token_ids": [], "text": "", field: value})


def test_nested_values_are_counted_no_further_than_their_bound() -> None:
    shared: list[Any] = [0] * 1000
    for _ in range(40):
        shared = [shared] * 1000
    with pytest.raises(ValueError, match="more than"):
        require_portable(shared, NESTED_VALUES_MAX)


text = st.text(max_size=6)
numbers = st.none() | st.floats(0, 1e6)
penalties = st.none() | st.floats(-1e6, 1e6)
ids = st.lists(st.integers(0, 2**31 - 1), max_size=3).map(tuple)
json_maps = st.dictionaries(
    text,
    st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | text, st.lists),
    max_size=3,
)
samplings = st.builds(
    Sampling,
    temperature=numbers,
    top_k=st.none() | st.integers(0, 2**31 - 1),
    typical_p=numbers,
    repeat_penalty=numbers,
    repeat_last_n=st.none() | st.integers(-1, 2**31 - 1),
    presence_penalty=penalties,
    frequency_penalty=penalties,
    logit_bias=st.none() | st.dictionaries(st.integers(0, 2**31 - 1), st.floats(-1e6, 1e6), max_size=3),
    seed=st.none() | st.integers(-(2**63), 2**64 - 1),
)
requests = st.builds(
    InferenceRequest,
    kind=st.sampled_from(get_args(RequestKind)),
    request_id=text.map(RequestId),
    model=text.map(ModelName),
    messages=st.lists(json_maps, max_size=2).map(tuple),
    prompt=text | ids,
    inputs=st.lists(text | ids, max_size=3).map(tuple),
    adds_special=st.booleans(),
    sampling=samplings,
    choices=st.integers(1, CHOICES_MAX),
    top_logprobs=st.none() | st.integers(0, 20),
    constraint=st.none() | st.builds(Constraint, st.sampled_from(get_args(ConstraintKind)), text),
    suffix=text,
    is_echoed=st.booleans(),
    tools=st.lists(json_maps, max_size=2).map(tuple),
    tool_choice=text,
    allows_parallel_tool_calls=st.booleans(),
    resume=st.none()
    | st.builds(
        Resume,
        st.binary(min_size=32, max_size=32),
        st.lists(
            st.builds(Delivered, ids, st.none() | st.sampled_from(get_args(FinishReason))), max_size=2
        ).map(tuple),
        st.booleans(),
    ),
)
likelihoods = st.tuples(st.binary(max_size=4), st.floats(-1e6, 0))
chunks = st.builds(
    Chunk,
    choice=st.integers(0, INPUTS_MAX - 1),
    token_ids=ids,
    text=text,
    reasoning=text,
    tool_calls=st.lists(st.builds(ToolCallDelta, st.integers(0, 127), text, text, text), max_size=2).map(
        tuple
    ),
    logprobs=st.lists(
        st.builds(
            TokenLogprob,
            st.binary(max_size=4),
            st.floats(-1e6, 0),
            st.lists(likelihoods, max_size=2).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    vector=st.lists(st.binary(min_size=4, max_size=4), max_size=3).map(b"".join),
    finish_reason=st.none() | st.sampled_from(get_args(FinishReason)),
)


@given(requests)
@settings(deadline=None)
def test_any_request_arrives_unchanged(request: InferenceRequest) -> None:
    assert decode_from_front_untrusted(over_the_wire(Request(request))) == Request(request)


@given(chunks)
@settings(deadline=None)
def test_any_chunk_arrives_unchanged(chunk: Chunk) -> None:
    assert decode_from_worker_untrusted(over_the_wire(chunk)) == chunk
