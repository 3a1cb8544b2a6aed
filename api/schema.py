"""Bodies of inference requests: what OpenAI's clients send, checked before anybody works on it.

Three kinds of parameters:

- supported: fields below, strictly typed and in range;
- not supported yet, and the answer would be another one without them: `NOT_YET`,
  refused by name unless their value asks for nothing;
- everything else (`user`, `metadata`, `store`, `service_tier`, ...): ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.errors import HttpError
from federation.backend import InferenceRequest, RequestId, Sampling
from ledger.records import ModelName

TOKENS_MAX = 2**31 - 1
"""llama.cpp counts tokens, and numbers them, in 32 bits."""

STOP_MAX = 16
"""Strings. OpenAI allows 4; agents send more; each one is searched for in every token's text."""

STOP_LENGTH_MAX = 1024
"""Characters. A worker holds back that much text while a stop string may be forming."""

MESSAGES_MAX = 16_384
"""Messages of one chat: as many as one request to a peer carries."""

NOT_YET: Mapping[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "grammar": (None, ""),
    "json_schema": (None, {}),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "repeat_penalty": (None, 1),
    "typical_p": (None, 1),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "web_search_options": (None,),
    "echo": (None, False),
    "suffix": (None, ""),
}
"""Parameters that are refused, with the values that change nothing and pass."""


def _sendable(text: str) -> str:
    """JSON can spell half a surrogate pair; no text that a peer or a model could read contains one."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a surrogate without its other half is not text") from None
    return text


Text: TypeAlias = Annotated[str, AfterValidator(_sendable)]
StopText: TypeAlias = Annotated[Text, Field(max_length=STOP_LENGTH_MAX)]

_T = TypeVar("_T")

Items: TypeAlias = Annotated[list[_T], Field(fail_fast=True)]
"""A list that is refused at its first fault: a body of a million would be seconds of work and gigabytes."""


class StreamOptions(BaseModel):
    """Of a streamed answer."""

    model_config = ConfigDict(strict=True)

    include_usage: bool | None = None


class InferenceBody(BaseModel):
    """What chat and completions have in common."""

    model_config = ConfigDict(strict=True, extra="allow")

    model: Annotated[Text, Field(min_length=1, max_length=256)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1, le=TOKENS_MAX)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=TOKENS_MAX)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: StopText | Annotated[Items[StopText], Field(max_length=STOP_MAX)] | None = None
    ignore_eos: bool | None = None

    @property
    def include_usage(self) -> bool:
        """The stream ends with its token counts."""
        return self.stream_options is not None and self.stream_options.include_usage is True

    def check(self) -> None:
        """Nothing, if every parameter means something together with the others.

        Raises:
          HttpError: 400 that names the parameter.
        """
        for name, neutral in NOT_YET.items():
            if (self.model_extra or {}).get(name) not in neutral:
                raise not_yet(name)
        if self.stream_options is not None and not self.stream:
            raise HttpError(400, "`stream_options` needs `stream: true`", param="stream_options")

    def tokens_wanted(self) -> int | None:
        """How many tokens to generate at most."""
        return self.max_tokens

    def common(self, request_id: RequestId) -> dict[str, Any]:
        """The fields of an `InferenceRequest` that do not depend on its kind."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return {
            "request_id": request_id,
            "model": ModelName(self.model),
            "max_tokens": self.tokens_wanted(),
            "stop": tuple(text for text in stop if text),
            "ignore_eos": self.ignore_eos is True,
            "is_streamed": self.stream is True,
            "sampling": Sampling(
                temperature=self.temperature,
                top_k=self.top_k,
                top_p=self.top_p,
                min_p=self.min_p,
                seed=self.seed,
            ),
        }


class TextPart(BaseModel):
    """One part of a message's content; images and sound come with models that know them."""

    model_config = ConfigDict(strict=True)

    type: Literal["text"]
    text: Text


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(strict=True, extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Items[TextPart] | None = None
    name: Text | None = None

    def text(self) -> str | None:
        """The content as one text, parts on lines of their own."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content


class ChatBody(InferenceBody):
    """Body of `/v1/chat/completions`."""

    messages: Annotated[Items[Message], Field(min_length=1, max_length=MESSAGES_MAX)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=TOKENS_MAX)] | None = None
    """OpenAI's newer name of `max_tokens`; wins over it."""

    def tokens_wanted(self) -> int | None:
        """How many tokens to generate at most."""
        return self.max_completion_tokens or self.max_tokens

    def inference_request(self, request_id: RequestId) -> InferenceRequest:
        """This body as a request for a backend.

        Raises:
          HttpError: 400 that names the parameter.
        """
        self.check()
        messages = tuple(_plain(message, index) for index, message in enumerate(self.messages))
        return InferenceRequest(kind="chat", messages=messages, **self.common(request_id))


TokenId: TypeAlias = Annotated[int, Field(ge=0, le=TOKENS_MAX)]


class CompletionBody(InferenceBody):
    """Body of `/v1/completions`."""

    prompt: Text | Items[TokenId] | Items[Text] | Items[Items[TokenId]]
    """A list of prompts may hold one; several come with `n`."""

    def inference_request(self, request_id: RequestId) -> InferenceRequest:
        """This body as a request for a backend.

        Raises:
          HttpError: 400 that names the parameter.
        """
        self.check()
        prompt: Any = self.prompt
        if isinstance(prompt, list) and (not prompt or not isinstance(prompt[0], int)):
            if len(prompt) != 1:
                raise HttpError(400, "`prompt`: exactly one prompt is supported for now", param="prompt")
            prompt = prompt[0]
        sent = prompt if isinstance(prompt, str) else tuple(prompt)
        return InferenceRequest(kind="completion", prompt=sent, **self.common(request_id))


def not_yet(param: str) -> HttpError:
    """The refusal of a parameter that would change the answer."""
    return HttpError(
        400,
        f"`{param}` is not supported yet, or not with this value",
        param=param,
        code="unsupported_parameter",
    )


def _plain(message: Message, index: int) -> dict[str, str]:
    where = f"messages[{index}]"
    for name in ("tool_calls", "function_call"):
        if (message.model_extra or {}).get(name):
            raise not_yet(f"{where}.{name}")
    text = message.text()
    if text is None:
        raise HttpError(400, f"`{where}.content`: every message needs a text", param=f"{where}.content")
    plain = {"role": message.role, "content": text}
    return plain if message.name is None else {**plain, "name": message.name}
