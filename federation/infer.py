"""`/localai-node/infer/1`: inference requests on one stream, one after the other.

    front                                   worker
      | -- REQUEST -----------------------> |   with the first credit
      | <-------------------- PROGRESS *--- |   while a cold model is loaded
      | <-------------------- ACCEPTED ---- |   slot taken, prompt tokenised
      | <-------------------- PROGRESS *--- |   at least every second while nothing else comes
      | <-------------------- CHUNK    *--- |   costs one credit each
      | -- CREDIT ------------------------> |   as chunks are read
      | <-------------------- DONE -------- |   finish reasons, usage, timings, load
      or, before ACCEPTED:    REFUSED       |   another peer may do it
      or, after ACCEPTED:     FAILED        |   resume elsewhere, unless the request is to blame

After DONE, REFUSED or FAILED the slot is free and the next REQUEST may come on
the same stream. The end or reset of the front's side is cancellation; there is
no cancel message.

A REQUEST has a mark, which its ACCEPTED or REFUSED says again, so that what was sent for one request,
or ahead of any, is not taken for the answer to the next. A worker that is older says none: it is asked
once on each stream.

PROGRESS says how much of the prompt is read and, before ACCEPTED, how many thousandths of the model are
loaded. A worker at work can always show that this grows: see `standstill.py`.

Credit keeps a slow reader harmless: chunks under way always fit the stream's window, so
a worker's write never waits for whoever reads, and memory stays small on both sides.

This module has the messages, their limits and their order; `infer_codec.py` turns them
into maps and back. What is asked may be something else than text (`RequestKind`): the flow is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from federation.backend import Chunk, Done, InferenceRequest, Progress
from federation.errors import RefusalReason
from ledger.records import Load
from p2p.errors import BadFrame

PROTOCOL_ID = "/localai-node/infer/1"

FRAME_SIZE_MAX = 4 * 1024 * 1024
"""Bytes. A prompt of 128k tokens is below 1 MiB, as text and as token ids."""

CREDIT_MAX = 32
"""Chunks under way: at 4 KiB each (`chunk_sizing.py`) half of yamux's first window, 256 KiB.
More would only lengthen what a client still gets after it stopped reading."""

PROGRESS_INTERVAL = 1.0
"""Seconds of silence after which a worker says that it is still at it."""

SILENCE_MAX = 10.0
"""Seconds without a word after which a front gives a peer up: ten PROGRESS in a row did not come.
Not shorter, because a machine that swaps while it loads a model stalls for seconds and is fine."""

MARK_MAX = 2**63 - 1
"""A mark is drawn from so many: nobody guesses the one of a request that was not sent yet."""

COUNT_MAX = 2**31 - 1
"""Of anything that is counted and has no limit of its own: it fits every integer type there is."""

NAME_LENGTH_MAX = 256
"""Characters of a model's name, a request's id, a parameter's name."""

TOKENS_MAX = 2**24
"""Tokens in one request or answer: sixteen times the longest context there is."""

ANSWER_LENGTH_MAX = 2**24
"""Characters of one answer, all its choices together: a context of a million tokens is four million. A peer
that sends more sends without end, and a client that waits for all of it would wait until its time is over."""

TOKEN_ID_MAX = 2**31 - 1
"""llama.cpp's token ids are 32-bit and signed."""


@dataclass(frozen=True, slots=True)
class Request:
    """From the front: serve this, `credit` chunks may come before the next CREDIT."""

    request: InferenceRequest
    credit: int = CREDIT_MAX
    mark: int = 0
    """0: a front that is older draws none."""


@dataclass(frozen=True, slots=True)
class Credit:
    """From the front: `count` more chunks may come."""

    count: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """From the worker: a slot is taken, tokens will come."""

    prompt_sha256: bytes
    prompt_tokens: int
    mark: int = 0
    """Of the request; 0: a worker that is older does not say."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """From the worker, before ACCEPTED: no."""

    reason: RefusalReason
    message: str
    param: str | None = None
    """Of a bad request: the field to blame."""
    load: Load | None = None
    mark: int = 0
    """As in `Accepted`."""


@dataclass(frozen=True, slots=True)
class Failure:
    """From the worker, after ACCEPTED: it cannot go on."""

    message: str
    load: Load | None = None
    is_bad_request: bool = False
    """The request is to blame, so nobody else could go on either."""
    param: str | None = None
    """Of a bad request: the field to blame."""


FrontMessage: TypeAlias = Request | Credit
WorkerMessage: TypeAlias = Accepted | Chunk | Progress | Done | Refusal | Failure


@dataclass(slots=True)
class AnswerOrder:
    """What a worker may say next, of which choices, and what it may send before we grant more."""

    choices: int = 1
    is_generated: bool = True
    """Each choice ends for a reason of its own."""
    tokens_max: int = TOKENS_MAX
    """Of all choices together."""
    credit: int = CREDIT_MAX
    mark: int = 0
    """Of the request."""
    must_be_tied: bool = False
    """The stream has carried another answer, so this one must say what it is the answer to."""
    is_tied: bool = False
    """It has said so."""
    is_accepted: bool = False
    is_over: bool = False
    _unacknowledged: int = 0
    _tokens: int = 0
    _length: int = 0

    @classmethod
    def of(cls, request: InferenceRequest) -> AnswerOrder:
        """Of what answers `request`."""
        match request.kind:
            case "chat" | "completion":
                if request.max_tokens is None:
                    return cls(request.choices)
                return cls(request.choices, tokens_max=request.max_tokens * request.choices)
            case "embeddings" | "rerank":
                return cls(len(request.inputs), is_generated=False)
            case "tokenize" | "detokenize":
                return cls(1, is_generated=False)

    def check(self, message: WorkerMessage) -> None:
        """Take note of `message`.

        Raises:
          BadFrame: it may not come now, or is about something that was not asked for.
        """
        match message:
            case _ if self.is_over:
                raise BadFrame("a message after the end of the answer")
            case Progress():
                return
            case Accepted(mark=mark) if not self.is_accepted:
                self._tie(mark)
                self.is_accepted = True
            case Refusal(mark=mark) if not self.is_accepted:
                self._tie(mark)
                self.is_over = True
            case Chunk(choice) if choice >= self.choices:
                raise BadFrame(f"a chunk of choice {choice}, and {self.choices} were asked for")
            case Chunk() if self.is_accepted:
                self._spend()
                self._measure(message)
            case Done(reasons) if self.is_generated and len(reasons) != self.choices:
                raise BadFrame(f"{len(reasons)} choices have ended, and {self.choices} were asked for")
            case Done() | Failure() if self.is_accepted:
                self.is_over = True
            case _:
                raise BadFrame(f"{type(message).__name__} out of turn")

    def grant(self) -> int:
        """Call when a chunk was read: how much credit to give back now, mostly 0.

        Half of it at a time: one small frame for sixteen chunks, and the worker never runs dry.
        """
        self._unacknowledged += 1
        if self._unacknowledged < CREDIT_MAX // 2:
            return 0
        granted, self._unacknowledged = self._unacknowledged, 0
        self.credit += granted
        return granted

    def _tie(self, mark: int) -> None:
        self.is_tied = 0 < mark == self.mark
        if not self.is_tied and (mark or self.must_be_tied):
            raise BadFrame("the answer to another request")

    def _spend(self) -> None:
        if self.credit == 0:
            raise BadFrame("a chunk without credit")
        self.credit -= 1

    def _measure(self, chunk: Chunk) -> None:
        self._tokens += len(chunk.token_ids)
        if self._tokens > self.tokens_max:
            raise BadFrame(f"more than the {self.tokens_max} tokens that were asked for")
        self._length += len(chunk.text) + len(chunk.reasoning)
        # Whatever comes in numbers counts by them too: a million nameless calls are no less.
        for likelihood in chunk.logprobs:
            self._length += 1 + len(likelihood.top)
        for call in chunk.tool_calls:
            self._length += 1 + len(call.id) + len(call.name) + len(call.arguments)
        if self._length > ANSWER_LENGTH_MAX:
            raise BadFrame("an answer without end")
