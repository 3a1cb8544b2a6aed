"""What a node and its engine child say to each other, over the child's stdin and stdout.

    node                                    child
      | -- Load -------------------------->  |
      | <------------------------ Loading -- |   now and then while the weights are read
      | <------------------------- Loaded -- |   or LoadFailed, and the child ends
      | <-------------------------- Ready -- |   the self-test decode came back
      |                                      |
      | -- Generate(7) ------------------->  |   many at once, told apart by id
      | <--------------------- Accepted(7) - |   or Refused(7)
      | <-------------------- Prefilled(7) - |   now and then while the prompt is read
      | <------------------------ Piece(7) - |   the latest tokens of one choice, while there is credit
      | -- Credit(7) --------------------->  |   as pieces of a choice are read
      | <--------------------- Finished(7) - |   after the last choice; or Refused(7), late
      |
      | -- Embed(8) ---------------------->  |   answered in the same way: a Piece for each text
      | -- Tokenize(9), Detokenize(10) --->  |   looked up between two steps, answered in the same way
      |                                      |
      | -- Ping -------------------------->  |   while there is work; answered between two steps
      | <--------------------------- Pong -- |
      | -- Cancel(7) --------------------->  |   in place of the rest; what is under way is ignored
      | -- end of stdin ------------------>  |   the node is gone: exit at once

Frames are those of `p2p.framing`, their maps those of `wire_codec.py`. Both ends come from one
installation, so there is no version to negotiate; a message that does not parse is a bug and ends
the child. Ids are chosen by the node and never used twice in one child.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from federation.backend import FinishReason, Resume, TokenLogprob
from ledger.records import Capability

FRAME_SIZE_MAX = 16 * 1024 * 1024
"""A prompt of a million tokens, as text or as ids, takes about 5 MB."""

UNREAD_TOKENS_MAX = 32
"""Tokens of one choice that its reader has not taken yet; at that many the choice pauses,
and the others go on. At 100 tokens/s a third of a second: more than any reader that keeps up needs."""

CacheType: TypeAlias = Literal["f32", "f16", "q8_0", "q4_0"]
"""How keys and values of the context are kept."""

FlashAttention: TypeAlias = Literal["auto", "on", "off"]
"""Attention without a table of all pairs of tokens. `auto`: where the model and the build can."""


@dataclass(frozen=True, slots=True)
class EngineParams:
    """How to run one model. 0 where it says so: chosen by the child."""

    path: str
    context_size: int = 0
    """Tokens of prompt and answer together, of each sequence. 0: what the model was trained
    for, but at most 4096, because memory for all of it is taken at the start."""
    slots: int = 4
    """Sequences at once, each with a context of its own."""
    threads: int = 0
    """0: one per physical core this process may use."""
    gpu_layers: int | None = None
    """Layers to put on a GPU, if the build knows one. -1: all. None: as many as fit what is free there."""
    mmap: bool = True
    """Map the file, so that two engines share it and loading reads only what is used."""
    mlock: bool = False
    """Keep the weights from being swapped out."""
    cache_type_k: CacheType = "f16"
    cache_type_v: CacheType = "f16"
    """q8_0 and q4_0 need flash attention."""
    flash_attention: FlashAttention = "auto"
    use_extra_bufts: bool = True
    """Repack weights for special instructions (AMX and the like). They crash where a virtual machine
    hides them, so an engine that dies in its self-test tries once without."""
    memory_max: int = 0
    """Bytes, beside mapped weights, after which it is ended (see `memory.py`). 0: as much as there is."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model once it is loaded."""

    context_size: int
    """Tokens of prompt and answer together, of each sequence."""
    vocab_size: int
    chat_template: str | None
    """Jinja text from the file."""
    bos: str
    """Text of the token that begins a sequence; empty if there is none."""
    eos: str
    special_tokens: tuple[str, ...]
    """Texts that become control tokens where `parse_special` is set."""
    special_ids: tuple[int, ...]
    """The ids of those, in that order."""
    capabilities: tuple[Capability, ...] = ("chat", "completion")


@dataclass(frozen=True, slots=True)
class PromptPart:
    """A piece of prompt text."""

    text: str
    parse_special: bool
    """Texts of special tokens become those tokens: for what a template wrote, never for what a person did."""


@dataclass(frozen=True, slots=True)
class FilledSampling:
    """`federation.backend.Sampling` with nothing left open; where neither request nor model says otherwise,
    it is as in llama.cpp."""

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    """None: drawn by the engine."""


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One prompt to go on from."""

    prompt: tuple[PromptPart | int, ...]
    """Text, which gets the model's own first token where it wants one; or token ids, taken as they are."""
    sampling: FilledSampling = field(default_factory=FilledSampling)
    max_tokens: int | None = None
    """At least 1; refused if the context cannot hold as many. None: until the model stops or its context is
    full."""
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    choices: int = 1
    """Answers, each in a slot of its own. At most as many as there are slots."""
    top_logprobs: int | None = None
    """Log probabilities of this many likeliest tokens too. None: of none at all."""
    grammar: str = ""
    """In the language of llguidance; empty: anything may come."""
    shown: tuple[str, ...] = ()
    """Texts of control tokens that are part of the answer's text. The others stand for no text."""
    suffix: str | None = None
    """What follows the answer, for a model that fills in."""
    is_echoed: bool = False
    """The answer's text begins with the prompt."""
    max_tokens_default: int | None = None
    """Where `max_tokens` is None: so many, or as many as the context holds."""
    resume: Resume | None = None
    """What came of each choice before, on another engine: it is not said again."""


@dataclass(frozen=True, slots=True)
class TokenizeRequest:
    """A text to read as tokens."""

    part: PromptPart
    adds_special: bool
    """With the token that the model wants first."""


@dataclass(frozen=True, slots=True)
class DetokenizeRequest:
    """Tokens to write as text."""

    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts to turn into vectors, or to rank."""

    inputs: tuple[PromptPart | tuple[int, ...], ...]
    """Texts, which get what the model wants around them; or token ids, taken as they are."""
    query: PromptPart | None = None
    """What the texts are ranked by."""


LookupRequest: TypeAlias = TokenizeRequest | DetokenizeRequest
"""What takes no slot: a vocabulary is looked up, and nothing is computed."""


@dataclass(frozen=True, slots=True)
class Load:
    """First, once."""

    params: EngineParams


@dataclass(frozen=True, slots=True)
class Generate:
    id: int
    request: GenerateRequest


@dataclass(frozen=True, slots=True)
class Embed:
    id: int
    request: EmbedRequest


@dataclass(frozen=True, slots=True)
class Tokenize:
    id: int
    request: TokenizeRequest


@dataclass(frozen=True, slots=True)
class Detokenize:
    id: int
    request: DetokenizeRequest


@dataclass(frozen=True, slots=True)
class Credit:
    """The reader took `tokens` more."""

    id: int
    choice: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Cancel:
    id: int


@dataclass(frozen=True, slots=True)
class Ping:
    pass


@dataclass(frozen=True, slots=True)
class Loading:
    fraction: float
    """Of the weights: 0 to 1. Those that are mapped count as read at once, and are read by the self-test."""


@dataclass(frozen=True, slots=True)
class Loaded:
    facts: ModelFacts
    size_bytes: int
    """Of the file."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The self-test passed: the model computes."""

    step_seconds: float
    """How long one step takes at most, as the self-test's decode shows."""


@dataclass(frozen=True, slots=True)
class LoadFailed:
    reason: str


@dataclass(frozen=True, slots=True)
class Accepted:
    id: int
    prompt_sha256: bytes
    """Of the prompt's token ids, 4 bytes little-endian each."""
    prompt_tokens: int
    resumed: tuple[str, ...] = ()
    """The text that was delivered of each choice before, where the request resumes one."""


RefusedBecause: TypeAlias = Literal["unservable", "too_long", "other_prompt"]
"""Never possible; more than the context holds; a prompt that is not the one to be resumed."""


@dataclass(frozen=True, slots=True)
class Refused:
    id: int
    reason: str
    because: RefusedBecause = "unservable"
    param: str = ""
    """Of the request, if one is to blame."""


@dataclass(frozen=True, slots=True)
class Prefilled:
    id: int
    prefilled: int
    total: int


@dataclass(frozen=True, slots=True)
class Piece:
    id: int
    choice: int
    token_ids: tuple[int, ...]
    """One or more, as `pacing.py` tells of them; none with the last of a choice that the model ended."""
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    """One for each token, if asked for."""
    vector: bytes = b""
    """Of an input, which `choice` is the number of: 32-bit floats, little-endian."""
    finish_reason: FinishReason | None = None
    """With the last piece of a choice."""


@dataclass(frozen=True, slots=True)
class Finished:
    id: int
    reasons: tuple[FinishReason, ...]
    """Of each choice."""
    prompt_tokens: int
    completion_tokens: int
    """Of all choices; also those that were resumed."""
    cached_tokens: int
    """Of the prompt, which needed no prefill."""
    queue: float
    """Seconds, as the two below: from the request's arrival to its first step,"""
    prefill: float
    """from there to its first token,"""
    decode: float
    """and on to its end."""


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to Ping: no step lasts for ever."""


ToChild: TypeAlias = Load | Generate | Embed | Tokenize | Detokenize | Credit | Cancel | Ping
FromChild: TypeAlias = (
    Loading | Loaded | Ready | LoadFailed | Accepted | Refused | Prefilled | Piece | Finished | Pong
)

EngineRequest: TypeAlias = GenerateRequest | EmbedRequest | LookupRequest
"""What a node asks for."""


def asked(request_id: int, request: EngineRequest) -> ToChild:
    """The message that asks for `request`."""
    match request:
        case GenerateRequest():
            return Generate(request_id, request)
        case EmbedRequest():
            return Embed(request_id, request)
        case TokenizeRequest():
            return Tokenize(request_id, request)
        case DetokenizeRequest():
            return Detokenize(request_id, request)


def choices_of(request: EngineRequest) -> int:
    """How many answers come."""
    match request:
        case GenerateRequest():
            return request.choices
        case EmbedRequest():
            return len(request.inputs)
        case _:
            return 1


def slots_of(request: EngineRequest) -> int:
    """How many slots it takes."""
    match request:
        case GenerateRequest():
            return request.choices
        case EmbedRequest():
            return 1
        case _:
            return 0
