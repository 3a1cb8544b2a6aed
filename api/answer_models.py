"""The answers that carry generated text, and the list of models, as our OpenAPI describes them.

Only described: bodies are worded by the shapes beside this module, which make no such
objects. That the two agree is tested with requests made from the document.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from federation.backend import FinishReason
from ledger.records import Capability, ModelState


class CachedTokens(BaseModel):
    """Of a prompt's tokens."""

    cached_tokens: int


class GeneratedUsage(BaseModel):
    """What an answer took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class LikelyToken(BaseModel):
    """A token and how likely it was; one that is no text by itself is spelt `bytes:\\xf0\\x9f`."""

    token: str
    logprob: float
    bytes: list[int]


class GeneratedToken(LikelyToken):
    """One that was chosen, with the likeliest at its place."""

    top_logprobs: list[LikelyToken]


class ChatProbabilities(BaseModel):
    """Of all tokens of a choice."""

    content: list[GeneratedToken]
    refusal: None


class FunctionCall(BaseModel):
    """What to call; `arguments` is JSON as the model wrote it, which an answer's length may cut."""

    name: str
    arguments: str


class MadeCall(BaseModel):
    """One call of an answer."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class AnswerMessage(BaseModel):
    """What the model said, thought and called."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | None = None
    tool_calls: list[MadeCall] | None = None


class ChatChoice(BaseModel):
    """One of `n` answers."""

    index: int
    message: AnswerMessage
    logprobs: ChatProbabilities | None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    """OpenAI's answer to a chat."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: GeneratedUsage


class TextProbabilities(BaseModel):
    """Of all tokens of a choice, in columns."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class TextChoice(BaseModel):
    """One of `n` continuations of one prompt."""

    index: int
    text: str
    logprobs: TextProbabilities | None
    finish_reason: FinishReason


class TextCompletion(BaseModel):
    """OpenAI's answer to a prompt."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: GeneratedUsage


class ModelObject(BaseModel):
    """A model that can be asked for; `reason` says why one has failed."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    state: ModelState
    capabilities: list[Capability]
    context_size: int
    reason: str


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"]
    data: list[ModelObject]
