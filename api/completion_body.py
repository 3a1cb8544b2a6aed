"""Body of `/v1/completions`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from api.body_types import Text, Texts, separate_texts
from api.errors import HttpError
from api.schema import InferenceBody
from federation.backend import InferenceRequest, RequestId
from federation.request_limits import CHOICES_MAX


class CompletionBody(InferenceBody):
    """Body of `/v1/completions`."""

    prompt: Texts
    """Several have `n` choices each, those of the first prompt first."""
    suffix: Text | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None

    elsewhere: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "tools": (None, []),
        "functions": (None, []),
        "tool_choice": (None, "auto", "none"),
        "function_call": (None, "auto", "none"),
        "top_logprobs": (None, 0),
        "max_completion_tokens": (None,),
        "messages": (None,),
        "input": (None,),
    }

    def own_names(self) -> dict[str, str]:
        """As in `InferenceBody`."""
        return {**super().own_names(), "top_logprobs": "logprobs"}

    def inference_requests(self, request_id: RequestId) -> tuple[InferenceRequest, ...]:
        """This body as requests for a backend, one for each prompt.

        Raises:
          HttpError: 400 that names the parameter.
        """
        self.check()
        if self.echo and self.suffix:
            raise HttpError(400, "`echo` cannot be combined with `suffix`", param="echo")
        if self.echo and self.logprobs is not None:
            raise HttpError(
                400, "`logprobs` cannot be combined with `echo`: a prompt's are not known", param="logprobs"
            )
        prompts = separate_texts(self.prompt)
        if not prompts:
            raise HttpError(400, "`prompt`: a list of prompts needs at least one", param="prompt")
        if len(prompts) * self.choices > CHOICES_MAX:
            raise HttpError(
                400,
                f"`prompt`: {len(prompts)} prompts make more than {CHOICES_MAX} choices together",
                param="prompt",
            )
        ids = [request_id] if len(prompts) == 1 else [f"{request_id}.{at}" for at in range(len(prompts))]
        return tuple(
            InferenceRequest(
                kind="completion",
                prompt=prompt,
                suffix=self.suffix or "",
                is_echoed=self.echo is True,
                top_logprobs=self.logprobs,
                **self.common(RequestId(each)),
            )
            for prompt, each in zip(prompts, ids, strict=True)
        )
