"""The backend port: anything that can serve a request.

The local worker, a remote peer and the whole swarm look the same from here:

    api  ->  Front  ->  worker on this machine       all three are a `Backend`
                   ->  RemoteBackend ~~ infer ~~> worker on a peer

An answer is opened in a `with` block: leaving the block, however it is left, is
cancellation, and the slot behind it is free again within one decode step.

    async with backend.infer(request) as answer:    # raises before anything was accepted
        async for event in answer.events: ...       # Chunk*, Progress*, Resumed*, then exactly one Done

No cancel scope and no nursery stays open in the task that entered: so an answer may be entered and left in
the middle of another one's events, in any order, and from another task. Going on elsewhere needs that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, NewType, Protocol, TypeAlias

from federation.trace import Trace
from ledger.records import Capability, Load, ModelName, ModelState
from p2p.peer import PeerId

RequestId = NewType("RequestId", str)

RequestKind: TypeAlias = Literal["chat", "completion", "embeddings", "rerank", "tokenize", "detokenize"]
"""What is asked. The last four have one answer that nobody streams. Wire values: append only.

    chat, completion    text, as chunks of each choice
    embeddings          chunks with the `vector` of each of `inputs`; the choice is the number of the input
    rerank              the same: one number, how well the document of `inputs` answers `prompt`
    tokenize            chunks with the `token_ids` of `prompt`, choice 0
    detokenize          chunks with the `text` of the ids in `prompt`, choice 0

`Done` of these has no finish reasons, and counts the tokens of all inputs as the prompt's.
"""

SLOTLESS_KINDS: frozenset[RequestKind] = frozenset({"tokenize", "detokenize"})
"""What takes no slot: a vocabulary is looked up, and nothing is computed."""

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls"]
"""Why a choice ended. Wire values: append only."""

ConstraintKind: TypeAlias = Literal["json_object", "json_schema", "gbnf"]
"""What text must be like. Wire values: append only."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. None: the model's own default, else the engine's.

    The worker fills these in, because defaults belong to the model (its YAML), not to the front.
    """

    temperature: float | None = None
    """0: always the likeliest token."""
    top_k: int | None = None
    """Among the `top_k` likeliest tokens. 0: off."""
    top_p: float | None = None
    """Among the likeliest that together have this probability. 1: off."""
    min_p: float | None = None
    """Among those at least this much as likely as the likeliest. 0: off."""
    typical_p: float | None = None
    """Among the most typical that together have this probability. 1: off."""
    repeat_penalty: float | None = None
    """Divides the score of tokens among the last `repeat_last_n`, prompt included. 1: off."""
    repeat_last_n: int | None = None
    """Tokens looked back at. 0: off; -1: as far as the engine goes."""
    presence_penalty: float | None = None
    """Taken from the score of each token that was generated before."""
    frequency_penalty: float | None = None
    """The same for each time it was."""
    logit_bias: Mapping[int, float] | None = None
    """Added to the score of a token, by its id."""
    seed: int | None = None
    """One seed gives one answer twice on a machine that does nothing else. None: drawn by the engine."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the text of an answer must be like."""

    kind: ConstraintKind
    text: str = ""
    """The JSON schema, as JSON; or the grammar."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What was delivered of one choice."""

    token_ids: tuple[int, ...] = ()
    """Those whose text was delivered too: of a chunk that travelled in parts, only once the last one came."""
    finish_reason: FinishReason | None = None
    """Why it had ended, if its end was delivered too: nothing more is said of it. None: it goes on."""


@dataclass(frozen=True, slots=True)
class Resume:
    """What was delivered of an answer whose worker is gone: another one goes on after it."""

    prompt_sha256: bytes
    """Of the prompt's token ids, as in `Answer`. Another prompt is refused."""
    choices: tuple[Delivered, ...]
    """One for each."""
    is_replayed: bool = False
    """Feed them one by one, as they were made. Slow; alone on one machine, what follows is then the same to
    the byte. Else they are read like a prompt."""


PolicyName: TypeAlias = Literal["eta", "least_used", "random"]
"""How a peer is chosen."""


@dataclass(frozen=True, slots=True)
class Routing:
    """How a client wants its request routed: the business of the front that it came to, so it does not
    travel. Nodes are named by their name or by one of their labels."""

    policy: PolicyName | None = None
    """None: the swarm's."""
    only: tuple[str, ...] = ()
    """Nodes that may serve it; none: all may."""
    only_by_alias: tuple[str, ...] = ()
    """The same, by the alias that was asked for; both lists hold."""
    prefer: tuple[str, ...] = ()
    """Nodes that are chosen before others."""
    avoid: tuple[str, ...] = ()
    """Nodes that are chosen where there is no other."""
    tenant: str = ""
    """Who asks, for fair shares: the same for all requests that showed one API key."""
    resumes_by_text: bool = False
    """Where no token ids are known, another server may go on after the text that was delivered."""


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """One request as it travels: nothing in it is specific to HTTP or to one peer."""

    kind: RequestKind
    request_id: RequestId
    model: ModelName
    messages: Sequence[Mapping[str, Any]] = ()
    """Chat only: OpenAI messages, `content` already text."""
    prompt: str | Sequence[int] = ""
    """All but chat and embeddings: text, or token ids of that model."""
    inputs: Sequence[str | Sequence[int]] = ()
    """Embeddings and rerank only: texts, or token ids of that model."""
    adds_special: bool = False
    """Tokenize only: with the tokens that begin and end a sequence."""
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    """Tokens to generate; None: until the model stops or its context is full."""
    stop: Sequence[str] = ()
    """Generation ends before the first of these; they are not delivered."""
    ignore_eos: bool = False
    choices: int = 1
    """How many answers; OpenAI's `n`."""
    top_logprobs: int | None = None
    """None: no log probabilities. Else those of the tokens, and of so many likeliest at each place."""
    constraint: Constraint | None = None
    suffix: str = ""
    """Completion only: text that comes after what is generated, for models trained to fill in."""
    is_echoed: bool = False
    """Completion only: the answer begins with the prompt."""
    tools: Sequence[Mapping[str, Any]] = ()
    """Chat only: OpenAI's function tools, checked."""
    tool_choice: str = "auto"
    """"auto", "none", "required", or "function:NAME": that one."""
    allows_parallel_tool_calls: bool = True
    resume: Resume | None = None
    is_begun: bool = False
    """Chat only: the last message is how the answer begins, and only what comes after it is wanted. Where
    token ids are known, `resume` says more."""
    timeout: float = 600.0
    """Seconds from now until nobody wants the answer any more. A duration, since clocks differ."""
    priority: int = 0
    """Larger goes first where requests wait."""
    routing: Routing = field(default_factory=Routing)
    is_streamed: bool = True
    """The client sees text as it comes. If not, nothing is delivered before the end, so a failure in the
    middle costs it only time. A front's own business: it does not travel to peers."""
    trace: Trace = field(default_factory=Trace, compare=False, repr=False)
    """Where whoever serves it writes how that goes. It does not travel."""


def slots_of(request: InferenceRequest) -> int:
    """How many slots it takes: choices are sequences of their own."""
    if request.kind in SLOTLESS_KINDS:
        return 0
    return request.choices if request.kind in ("chat", "completion") else 1


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one answer."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """Of the prompt, how many needed no prefill."""


@dataclass(frozen=True, slots=True)
class Timings:
    """What the worker measured, in seconds."""

    queue: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How likely one token was, as the natural logarithm of its probability before sampling."""

    token: bytes
    """What it stands for; a character may take several."""
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()
    """The likeliest at its place, likeliest first."""


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of one tool call."""

    index: int
    """Of the call within its choice."""
    id: str = ""
    """With the first piece of a call, as is `name`."""
    name: str = ""
    arguments: str = ""
    """What was generated of the arguments' JSON since the piece before."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one choice: what was generated since the chunk before.

    Where one has reasoning, text and calls, they were generated in that order.
    """

    choice: int
    token_ids: tuple[int, ...]
    """Of the text and all else in it; none where a server of another program generates it: it tells none."""
    text: str
    """May be empty: a character or a possible stop string is still incomplete."""
    reasoning: str = ""
    """What the model thought, and does not count as its answer."""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    """One for each of `token_ids`, where they were asked for. Where ids are not known, one for each token."""
    vector: bytes = b""
    """32-bit floats, little-endian: the numbers that follow those in the chunk before."""
    finish_reason: FinishReason | None = None
    """With the last chunk of a choice that was generated: why it ended, as `Done` says again. Whoever goes on
    with the others elsewhere passes it on (`Delivered`). A worker that is older says None."""
    is_cut: bool = False
    """It was too large for one frame, and its next part follows at once: nothing goes wrong in between. Only
    with the last part is all there that its ids are of."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Nothing came out, and the worker is at work: prefill so far, in tokens."""

    prefilled: int
    total: int


@dataclass(frozen=True, slots=True)
class Done:
    """The end of an answer."""

    finish_reasons: tuple[FinishReason, ...]
    """One per choice; none where nothing was generated."""
    usage: Usage
    timings: Timings
    load: Load | None = None


@dataclass(frozen=True, slots=True)
class Resumed:
    """Who served the answer could not go on with it, and another one does: what follows comes from there."""

    served_by: PeerId
    tokens: int
    """Delivered until then, of all choices; 0 where nobody counted them."""


AnswerEvent: TypeAlias = Chunk | Progress | Resumed | Done


@dataclass(frozen=True, slots=True)
class Queued:
    """What a request that came for a slot had to expect. How long it did wait its trace says."""

    position: int = 0
    """How many were to go before it."""
    estimate: float | None = 0.0
    """Seconds until a slot was to be free for it, as things went; None: not known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An accepted request: who serves it, and what comes out."""

    served_by: PeerId
    """Until an event says otherwise (`Resumed`)."""
    prompt_sha256: bytes
    """Of the prompt's token ids, 4 bytes little-endian each: what resuming elsewhere is checked against.
    Zeros where no text is generated, and where a server of another program does it: then nobody can."""
    prompt_tokens: int
    """0 where that is not known before the end."""
    events: AsyncIterator[AnswerEvent]
    """Ends after `Done`. Raises Failed when the worker cannot go on, BadRequest when nobody could,
    DeadlineExceeded."""
    attempts: int = 1
    """How many peers were asked until one accepted."""
    queued: Queued = Queued()


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model a backend can serve."""

    name: ModelName
    state: ModelState
    capabilities: tuple[Capability, ...]
    context_size: int
    """Tokens; 0: not known yet."""
    reason: str = ""
    """Why it failed, for a person."""


class Infers(Protocol):
    """Anything that can serve a request: what a front asks of a worker, here or on a peer."""

    def infer(self, request: InferenceRequest) -> AbstractAsyncContextManager[Answer]:
        """Serve `request`. Entering returns once it is accepted; leaving early cancels it. In between, no
        cancel scope and no nursery is open in the caller's task.

        Raises, on entering:
          BadRequest: it is wrong wherever it goes.
          ModelNotFound, ModelUnavailable, Busy, DeadlineExceeded: as their names say.
          Refused, Failed: from a single worker or peer only; the front tries another one.
        """


class Backend(Infers, Protocol):
    """Anything that can serve a request, and says which models may be asked for."""

    def models(self) -> Sequence[ModelInfo]:
        """What can be asked for now, sorted by name."""
