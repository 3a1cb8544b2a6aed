"""What an answer looks like, streamed and whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from federation.backend import Chunk, Done, Progress, Queued, Resumed, Timings, Usage
from federation.errors import Failed
from p2p.peer import PeerId
from tests.api.stub_backend import SERVED_BY, Hang, words

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.conftest import Bench


def test_a_whole_chat_answer_has_openais_shape(bench: Bench) -> None:
    reply = bench.chat()
    assert reply.status == 200
    body = reply.json()
    assert body["object"] == "chat.completion"
    assert body["model"] == "stub"
    assert body["id"].startswith("chatcmpl-")
    assert body["system_fingerprint"] == "localai-node-1.2.3"
    assert isinstance(body["created"], int)
    [choice] = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Paris", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert body["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 2},
    }


def test_a_chat_stream_says_the_role_first_and_the_reason_last(bench: Bench) -> None:
    *events, end = bench.chat(stream=True).events()
    assert end == "[DONE]"
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert len({event["id"] for event in events}) == 1
    choices = [event["choices"][0] for event in events]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert [choice["delta"].get("content") for choice in choices[1:]] == ["Par", "is", None]
    assert [choice["finish_reason"] for choice in choices] == [None, None, None, "stop"]
    assert all("usage" not in event for event in events)


def test_usage_is_the_last_event_when_it_is_asked_for(bench: Bench) -> None:
    *events, last, end = bench.chat(stream=True, stream_options={"include_usage": True}).events()
    assert end == "[DONE]"
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 7
    assert all(event["usage"] is None for event in events)


def test_a_whole_completion_has_openais_shape(bench: Bench) -> None:
    body = bench.call("POST", "/v1/completions", {"model": "stub", "prompt": "The capital is"}).json()
    assert body["object"] == "text_completion"
    assert body["id"].startswith("cmpl-")
    assert body["choices"] == [{"index": 0, "text": "Paris", "logprobs": None, "finish_reason": "stop"}]


def test_a_completion_stream_has_only_texts(bench: Bench) -> None:
    reply = bench.call("POST", "/v1/completions", {"model": "stub", "prompt": "The", "stream": True})
    *events, end = reply.events()
    assert end == "[DONE]"
    assert [event["choices"][0]["text"] for event in events] == ["Par", "is", ""]
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("text", ['"quoted"\n', "日本語", "👩‍👩‍👧", "\u2028\u2029\x85", "\0", "</script>"])
def test_any_text_arrives_as_it_is(new_bench: Callable[..., Bench], text: str) -> None:
    bench = new_bench(script=words(text))
    assert bench.chat().json()["choices"][0]["message"]["content"] == text
    streamed = [
        event["choices"][0]["delta"].get("content", "") for event in bench.chat(stream=True).events()[:-1]
    ]
    assert "".join(streamed) == text


@pytest.mark.parametrize("stream", [False, True])
def test_every_answer_says_who_gave_it(new_bench: Callable[..., Bench], stream: bool) -> None:
    headers = new_bench(attempts=2).chat(stream=stream).headers
    assert headers["x-localai-peer"] == SERVED_BY
    assert headers["x-localai-attempts"] == "2"
    assert headers["x-request-id"].startswith("req-")
    assert ";dur=" in headers["server-timing"]


@pytest.mark.parametrize("stream", [False, True])
def test_every_answer_says_how_it_waited(new_bench: Callable[..., Bench], stream: bool) -> None:
    headers = new_bench(queued=Queued(3, 0.25)).chat(stream=stream).headers
    assert headers["x-localai-queue-position"] == "3"
    assert headers["x-localai-queue-estimate-ms"] == "250.0"
    unknown = new_bench(queued=Queued(3, None)).chat(stream=stream).headers
    assert "x-localai-queue-estimate-ms" not in unknown


def test_a_whole_answer_says_what_took_how_long(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench(accept_after=0.25, script=[2.0, words("Par")[0], 0.3, *words("is")])
    assert bench.chat().headers["server-timing"] == (
        "queue;dur=0.0, route;dur=0.0, connect;dur=250.0, prefill;dur=2000.0, decode;dur=300.0"
    )


def test_a_sane_request_id_is_kept_and_sent_on(bench: Bench, smallest_chat: dict[str, Any]) -> None:
    reply = bench.call("POST", "/v1/chat/completions", smallest_chat, headers={"x-request-id": "trace-7"})
    assert reply.headers["x-request-id"] == "trace-7"
    assert bench.backend.requests[0].request_id == "trace-7"
    assert reply.json()["id"] == "chatcmpl-trace-7"


@pytest.mark.parametrize("offered", ["", "a b", "x" * 65, 'evil"\x1b[31m'])
def test_an_odd_request_id_is_replaced(bench: Bench, smallest_chat: dict[str, Any], offered: str) -> None:
    reply = bench.call("POST", "/v1/chat/completions", smallest_chat, headers={"x-request-id": offered})
    assert reply.headers["x-request-id"].startswith("req-")


def test_a_token_without_text_is_no_event(new_bench: Callable[..., Bench]) -> None:
    half_a_character = Chunk(0, (7,), "")
    bench = new_bench(script=[half_a_character, *words("é")])
    contents = [
        event["choices"][0]["delta"].get("content") for event in bench.chat(stream=True).events()[:-1]
    ]
    assert contents == ["", "é", None]


def test_a_long_prefill_keeps_the_connection_warm(new_bench: Callable[..., Bench]) -> None:
    slow = [step for tenth in range(30) for step in (1.0, Progress(tenth * 100, 3000))]
    bench = new_bench(script=[*slow, *words("Paris")])
    lines = bench.chat(stream=True).body.decode().splitlines()
    comments = [line for line in lines if line.startswith(":")]
    assert comments == [": prefill 900/3000", ": prefill 1900/3000", ": prefill 2900/3000"]
    assert '"content":"Paris"' in "".join(lines)


def test_a_stream_that_waits_for_long_begins_with_comments(new_bench: Callable[..., Bench]) -> None:
    reply = new_bench(accept_after=25.0).chat(stream=True)
    waiting, said, events = reply.body.partition(f": x-localai-peer: {SERVED_BY}\n\n".encode())
    assert waiting == b": waiting\n\n: waiting\n\n"
    assert said
    assert events.startswith(b": x-localai-attempts: 1\n\n")
    assert b": server-timing: queue;dur=" in events.partition(b"data: ")[0]
    assert b"server-timing" not in events.partition(b"data: ")[2]
    assert reply.events()[-1] == "[DONE]"
    assert "x-localai-peer" not in reply.headers


def test_a_stream_that_waits_for_a_slot_says_how_it_stands(new_bench: Callable[..., Bench]) -> None:
    reply = new_bench(queued=Queued(3, 15.0), accept_after=14.0).chat(stream=True)
    begins = b": waiting for a slot, 3 were to go before\n\n: waiting\n\n: x-localai-peer: "
    assert reply.body.startswith(begins)


def test_what_goes_wrong_after_a_long_wait_is_the_last_event(new_bench: Callable[..., Bench]) -> None:
    reply = new_bench(accept_after=25.0, script=[Failed("no luck")]).chat(stream=True)
    assert (reply.status, reply.events()[-1]["error"]["message"]) == (200, "no luck")


def test_where_a_stream_was_resumed_a_comment_says_so(new_bench: Callable[..., Bench]) -> None:
    script = list(words("Par", "is"))
    script.insert(1, Resumed(PeerId("other"), 1))
    body = new_bench(script=script).chat(stream=True).body.decode()
    assert body.index("Par") < body.index("\n: resumed on other after 1 tokens\n\n") < body.index('"is"')
    assert new_bench(script=script).chat().json()["choices"][0]["message"]["content"] == "Paris"


def test_a_short_prefill_sends_nothing_before_the_first_token(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench(script=[1.0, Progress(10, 20), *words("Paris")])
    assert b"prefill" not in bench.chat(stream=True).body


def test_a_streams_head_comes_with_the_first_token_and_tells_how_long_that_took(
    new_bench: Callable[..., Bench],
    smallest_chat: dict[str, Any],
    run_mocked: Callable[..., Any],
) -> None:
    bench = new_bench(accept_after=1.5, script=[5.0, *words("Paris"), Hang()])

    async def main() -> None:
        started_at = trio.current_time()
        async with bench.open(
            "POST", "/v1/chat/completions", json_body={**smallest_chat, "stream": True}
        ) as exchange:
            head = await exchange.head()
            assert dict(head["headers"])[b"server-timing"] == (
                b"queue;dur=0.0, route;dur=0.0, connect;dur=1500.0, prefill;dur=5000.0"
            )
            assert trio.current_time() - started_at == pytest.approx(6.5)

    run_mocked(main)


TWO_CHOICES = [
    Chunk(0, (1,), "a"),
    Chunk(1, (2,), "b"),
    Chunk(0, (3,), "c"),
    Done(("stop", "length"), Usage(1, 3), Timings()),
]


def test_the_choices_of_a_stream_begin_and_end_each_by_itself(new_bench: Callable[..., Bench]) -> None:
    events = new_bench(script=TWO_CHOICES).chat(n=2, stream=True).events()[:-1]
    choices = [event["choices"][0] for event in events]
    said = [(choice["index"], choice["delta"], choice["finish_reason"]) for choice in choices]
    begun = {"role": "assistant", "content": ""}
    assert said == [
        (0, begun, None),
        (1, begun, None),
        (0, {"content": "a"}, None),
        (1, {"content": "b"}, None),
        (0, {"content": "c"}, None),
        (0, {}, "stop"),
        (1, {}, "length"),
    ]


def test_every_shape_is_one_that_openais_own_client_knows(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench(script=TWO_CHOICES)
    ChatCompletion.model_validate(bench.chat(n=2).json(), strict=True)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    for event in bench.chat(n=2, **options).events()[:-1]:
        ChatCompletionChunk.model_validate(event, strict=True)
    completion = {"model": "stub", "prompt": "x", "n": 2}
    Completion.model_validate(bench.call("POST", "/v1/completions", completion).json(), strict=True)


def test_several_choices_are_told_apart(new_bench: Callable[..., Bench]) -> None:
    choices = new_bench(script=TWO_CHOICES).chat(n=2).json()["choices"]
    assert [(each["message"]["content"], each["finish_reason"]) for each in choices] == [
        ("ac", "stop"),
        ("b", "length"),
    ]
