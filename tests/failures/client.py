"""A client that notes all it is told of one answer, and when.

It reads in a thread of its own, so that whoever strikes at a node can watch how far the answer is.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx

ANSWER_TIMEOUT = 60.0
"""Seconds without a byte. An answer takes three, and a frozen node costs five; this ends what hangs."""


@dataclass(slots=True)
class Reply:
    """What came of one request."""

    errors: list[str] = field(default_factory=list)
    """What a person would have seen go wrong."""
    peer: str = ""
    """Who served it, as the headers say."""
    texts: dict[int, str] = field(default_factory=lambda: defaultdict(str))
    """Of each choice."""
    arguments: str = ""
    """Of all tool calls."""
    function: str = ""
    """That is called."""
    probable: dict[int, bytes] = field(default_factory=lambda: defaultdict(bytes))
    """What the tokens with a probability say together, of each choice."""
    probabilities: int = 0
    """How many of these there were."""
    finish_reasons: dict[int, str] = field(default_factory=dict)
    completion_tokens: int = 0
    vectors: list[list[float]] = field(default_factory=list)
    said_at: list[float] = field(default_factory=list)
    """When it was asked for, when something came that a person would see, and when it ended."""

    @property
    def longest_gap(self) -> float:
        return max((b - a for a, b in pairwise(self.said_at)), default=0.0)


class Asking:
    """One request on its way. Leave the `with` block, and it is over, whatever became of it."""

    def __init__(self, api: str, path: str, body: Mapping[str, Any], request_id: str, **headers: str) -> None:
        self.reply = Reply()
        self.request_id = request_id
        self._url = f"{api}{path}"
        self._body = body
        self._headers = {"x-request-id": request_id, **headers}
        self._has_ended = threading.Event()
        self._http = httpx.Client(timeout=ANSWER_TIMEOUT)
        self._thread = threading.Thread(target=self._ask, name=f"client of {request_id}")

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._http.close()

    @property
    def has_ended(self) -> bool:
        return self._has_ended.is_set()

    @property
    def events(self) -> int:
        """How often something came that a person would see."""
        return len(self.reply.said_at) - 1

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, within `seconds`."""
        return self._has_ended.wait(seconds)

    def _ask(self) -> None:
        self.reply.said_at.append(time.monotonic())
        try:
            if self._body.get("stream"):
                self._read_stream()
            else:
                self._read_whole()
        except httpx.HTTPError as error:
            self.reply.errors.append(f"the connection broke: {error!r}")
        except Exception as error:
            self.reply.errors.append(f"the client broke: {error!r}")
            raise
        finally:
            self.reply.said_at.append(time.monotonic())
            self._has_ended.set()

    def _read_whole(self) -> None:
        answer = self._http.post(self._url, json=self._body, headers=self._headers)
        if self._is_good(answer):
            body = answer.json()
            for choice in body.get("choices", ()):
                self._take(choice, choice.get("message", choice))
            self.reply.vectors += [row["embedding"] for row in body.get("data", ())]
            self.reply.completion_tokens = body["usage"].get("completion_tokens", 0)

    def _read_stream(self) -> None:
        with self._http.stream("POST", self._url, json=self._body, headers=self._headers) as answer:
            if answer.status_code != 200:
                answer.read()
            if not self._is_good(answer):
                return
            last = ""
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    last = line.removeprefix("data: ")
                    if last != "[DONE]":
                        self._take_event(json.loads(last))
            if last != "[DONE]" and not self.reply.errors:
                self.reply.errors.append("the stream ended before its end, without a word")

    def _is_good(self, answer: httpx.Response) -> bool:
        self.reply.peer = answer.headers.get("x-localai-peer", "")
        if answer.status_code == 200:
            return True
        self.reply.errors.append(f"{answer.status_code}: {answer.text[:300]}")
        return False

    def _take_event(self, event: Mapping[str, Any]) -> None:
        if "error" in event:
            self.reply.errors.append(f"in the stream: {event['error']['message']}")
            return
        shown = sum(self._take(choice, choice.get("delta", choice)) for choice in event.get("choices", ()))
        if shown:
            self.reply.said_at.append(time.monotonic())
        if event.get("usage"):
            self.reply.completion_tokens = event["usage"]["completion_tokens"]

    def _take(self, choice: Mapping[str, Any], said: Mapping[str, Any]) -> bool:
        """Note what is said of a choice; returns whether a person would see any of it."""
        index = choice["index"]
        text = said.get("content") or said.get("text") or ""
        self.reply.texts[index] += text
        calls = said.get("tool_calls") or ()
        for call in calls:
            self.reply.function += call["function"].get("name") or ""
            self.reply.arguments += call["function"].get("arguments") or ""
        for token in ((choice.get("logprobs") or {}).get("content")) or ():
            self.reply.probabilities += 1
            self.reply.probable[index] += bytes(token["bytes"])
        if choice.get("finish_reason"):
            self.reply.finish_reasons[index] = choice["finish_reason"]
        return bool(text or calls)
