"""Body of `/v1/chat/completions`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from api.body_types import TOKENS_MAX, Items
from api.errors import HttpError
from api.message_body import Message
from api.schema import InferenceBody
from api.tool_body import ToolBody
from federation.backend import InferenceRequest, RequestId
from federation.request_limits import MESSAGE_VALUES_MAX, TOP_LOGPROBS_MAX, require_portable

MESSAGES_MAX = 16_384
"""Messages of one chat: as many as one request to a peer carries."""


class ChatBody(InferenceBody, ToolBody):
    """Body of `/v1/chat/completions`."""

    messages: Annotated[Items[Message], Field(min_length=1, max_length=MESSAGES_MAX)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=TOKENS_MAX)] | None = None
    """OpenAI's newer name of `max_tokens`."""
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=TOP_LOGPROBS_MAX)] | None = None

    elsewhere: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "echo": (None, False),
        "suffix": (None, ""),
        "prompt": (None,),
        "input": (None,),
    }

    def tokens_wanted(self) -> int | None:
        """How many tokens to generate at most."""
        return self.max_completion_tokens or self.max_tokens

    def own_names(self) -> dict[str, str]:
        """As in `InferenceBody`."""
        length = {} if self.max_completion_tokens is None else {"max_tokens": "max_completion_tokens"}
        return {**super().own_names(), **length, **self.own_tool_names()}

    def inference_request(self, request_id: RequestId) -> InferenceRequest:
        """This body as a request for a backend.

        Raises:
          HttpError: 400 that names the parameter.
        """
        self.check()
        if self.max_tokens not in (None, self.tokens_wanted()):
            param = "max_completion_tokens"
            raise HttpError(
                400, f"`{param}` is the new name of `max_tokens`, which says otherwise", param=param
            )
        if self.top_logprobs and not self.logprobs:
            raise HttpError(400, "`top_logprobs` needs `logprobs: true`", param="top_logprobs")
        tools = self.tool_fields()
        self._check_grammar(may_call=bool(tools["tools"]) and tools["tool_choice"] != "none")
        return InferenceRequest(
            kind="chat",
            messages=self._plain_messages(),
            top_logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            **tools,
            **self.common(request_id),
        )

    def _plain_messages(self) -> tuple[dict[str, Any], ...]:
        messages = tuple(message.plain(index) for index, message in enumerate(self.messages))
        try:
            require_portable(messages, MESSAGE_VALUES_MAX)
        except ValueError as error:
            raise HttpError(400, f"`messages`: {error}", param="messages") from None
        return messages

    def _check_grammar(self, *, may_call: bool) -> None:
        """A call is text as well, in a form of the model's own that no grammar of a client knows."""
        for name, is_given in (("grammar", self.grammar), ("json_schema", self.json_schema is not None)):
            if may_call and is_given:
                raise HttpError(400, f"`{name}` cannot be combined with `tools`", param=name)
