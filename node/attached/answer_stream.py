"""A streamed answer of a server as events of ours: text, reasoning, calls, probabilities, and why it ended.

No server tells token ids, so chunks have none. Where it does not count its tokens either, each
piece with something in it counts as one, which is what they are almost everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from federation.backend import (
    Chunk,
    Done,
    FinishReason,
    InferenceRequest,
    Progress,
    Timings,
    ToolCallDelta,
    Usage,
)
from federation.request_limits import TOOL_CALLS_MAX
from node.attached.errors import BadAnswer, ErrorEvent
from node.attached.json_fields import JsonFields, parse_json
from node.attached.logprob_answer import read_logprobs
from node.attached.request_body import must_call
from node.chat.call_ids import call_id

END = "[DONE]"
"""The data of the event that ends a stream."""

_NAME_LENGTH_MAX = 256
"""Characters of the id or the name of a call: what a frame to a peer carries."""

_REASONS: Mapping[str, FinishReason] = {
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
"""Every other word means that the model stopped, or was stopped, and all there is of the answer is here."""

_BROKEN_OFF = frozenset({"abort", "error", "cancelled"})
"""Except these: the server could not go on."""


@dataclass(slots=True)
class _Choice:
    """What is known of one choice."""

    reason: FinishReason | None = None
    calls: dict[int, tuple[int, str]] = field(default_factory=dict)
    """By the index the server gives a call: ours, and the id it came with."""
    call_count: int = 0


class AnswerStream:
    """Reads the stream of one chat or completion."""

    def __init__(self, request: InferenceRequest, *, counts_each_choice: bool = False) -> None:
        """`counts_each_choice`: the server counts the tokens of each choice by itself."""
        self._request = request
        self._counts_each_choice = counts_each_choice
        self._choices = [_Choice() for _ in range(request.choices)]
        self._usage: Usage | None = None
        self._counted = 0
        self._timings: Timings | None = None

    def opening(self) -> Iterator[Chunk]:
        """What comes before anything is generated: the prompt, if it is to be echoed."""
        if self._request.is_echoed and isinstance(self._request.prompt, str):
            for choice in range(self._request.choices):
                yield Chunk(choice, (), self._request.prompt)

    def read(self, data: str) -> list[Chunk | Progress]:
        """What one event of the stream, or the body of an answer that came whole, brings.

        Raises:
          BadAnswer: it is not what was asked for, or says that the server could not go on.
        """
        event = JsonFields(parse_json(data), "answer")
        if "error" in event:
            raise ErrorEvent(event.raw("error"))
        self._note_usage(event)
        read: list[Chunk | Progress] = [
            each for row in event.rows("choices") for each in self._read_choice(row)
        ]
        if not read and "prompt_progress" in event:
            progress = event.fields("prompt_progress")
            read.append(Progress(progress.count("processed"), progress.count("total")))
        return read

    def done(self, measured: Timings) -> Done:
        """The end of the answer. `measured` by us, for where the server measured nothing.

        Raises:
          BadAnswer: it was not complete.
        """
        reasons = [choice.reason for choice in self._choices]
        if None in reasons:
            count = sum(reason is not None for reason in reasons)
            raise BadAnswer(
                f"it ended the stream after {count} of {len(reasons)} answers"
                if len(reasons) > 1
                else "it ended the stream before the answer was complete"
            )
        if must_call(self._request) and any(
            choice.reason == "stop" and not choice.call_count for choice in self._choices
        ):
            raise BadAnswer("it called nothing, which `tool_choice` asked for")
        usage = self._usage or Usage(0, self._counted)
        return Done(tuple(reason for reason in reasons if reason), usage, self._timings or measured)

    def _read_choice(self, row: JsonFields) -> Iterator[Chunk]:
        index = row.count("index")
        if index >= len(self._choices):
            raise BadAnswer(f"it sent answer {index + 1}, and {len(self._choices)} were asked for")
        choice = self._choices[index]
        chunk = Chunk(
            index, (), **(self._said_in_chat(row, index) if self._is_chat else {"text": row.text("text")})
        )
        if self._request.top_logprobs is not None and "logprobs" in row:
            chunk = replace(chunk, logprobs=read_logprobs(row.fields("logprobs"), self._request.top_logprobs))
        if chunk.text or chunk.reasoning or chunk.tool_calls or chunk.logprobs:
            self._counted += 1
            yield chunk
        reason = row.text("finish_reason")
        if reason in _BROKEN_OFF:
            raise BadAnswer("it broke the answer off")
        if reason:
            found = _REASONS.get(reason, "stop")
            # Some say "stop" after calls, which OpenAI's clients would take for an answer without any.
            choice.reason = "tool_calls" if found == "stop" and choice.call_count else found

    @property
    def _is_chat(self) -> bool:
        return self._request.kind == "chat"

    def _said_in_chat(self, row: JsonFields, index: int) -> dict[str, Any]:
        delta = row.fields("delta" if "delta" in row else "message")
        reasoning = delta.text("reasoning_content") or (
            delta.text("reasoning") if isinstance(delta.raw("reasoning"), str) else ""
        )
        calls = tuple(self._read_call(call, at, index) for at, call in enumerate(delta.rows("tool_calls")))
        return {"text": delta.text("content"), "reasoning": reasoning, "tool_calls": calls}

    def _read_call(self, row: JsonFields, position: int, choice_index: int) -> ToolCallDelta:
        choice = self._choices[choice_index]
        function = row.fields("function")
        key, id_ = row.count("index") if "index" in row else position, row.text("id")
        name, arguments = function.text("name"), function.raw("arguments")
        if not isinstance(arguments, str | None):
            raise BadAnswer("it sent a call whose arguments are not text")
        known = choice.calls.get(key)
        # Some number every call 0: a new id is a new call.
        is_new = known is None or bool(id_ and known[1] and id_ != known[1])
        if is_new:
            known = (choice.call_count, id_)
            choice.call_count += 1
            choice.calls[key] = known
            id_ = id_ or call_id(self._request.request_id, choice_index, known[0])
        assert known is not None
        if choice.call_count > TOOL_CALLS_MAX or max(len(id_), len(name)) > _NAME_LENGTH_MAX:
            raise BadAnswer(f"it sent more than {TOOL_CALLS_MAX} calls, or one with a name that is too long")
        return ToolCallDelta(
            index=known[0],
            # Some repeat both with every piece.
            id=id_ if is_new else "",
            name=name if is_new else "",
            arguments=function.text("arguments"),
        )

    def _note_usage(self, event: JsonFields) -> None:
        if "usage" in event:
            usage = event.fields("usage")
            details = usage.fields("prompt_tokens_details")
            prompt_tokens = usage.count("prompt_tokens")
            cached = min(details.count("cached_tokens"), prompt_tokens)
            before = self._usage.completion_tokens if self._usage and self._counts_each_choice else 0
            self._usage = Usage(prompt_tokens, before + usage.count("completion_tokens"), cached)
        if "timings" in event:
            timings = event.fields("timings")
            prefill, decode = timings.number("prompt_ms") / 1000, timings.number("predicted_ms") / 1000
            if prefill >= 0 and decode >= 0:
                self._timings = Timings(0.0, prefill, decode)
