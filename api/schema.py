"""What the bodies of chat and completions have in common, checked before anybody works on it.

Three kinds of parameters:

- supported: fields, strictly typed and in range, here and in the modules beside this one;
- not supported, and the answer would be another one without them: `NOT_YET`, and what belongs
  to another endpoint; refused by name unless their value asks for nothing;
- everything else (`user`, `metadata`, `store`, `service_tier`, `reasoning_effort`, ...): ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from api.body_types import TOKENS_MAX, Items, ModelBody, Text
from api.constraint_body import ConstraintBody
from api.errors import HttpError
from api.sampling_body import SamplingBody
from federation.backend import RequestId
from federation.request_limits import CHOICES_MAX
from ledger.records import ModelName

STOP_MAX = 16
"""Strings. OpenAI allows 4; agents send more; each one is searched for in every token's text."""

STOP_LENGTH_MAX = 1024
"""Characters. A worker holds back that much text while a stop string may be forming."""

NOT_YET: Mapping[str, tuple[Any, ...]] = {
    # OpenAI's
    "modalities": (None, ["text"]),
    "audio": (None,),
    "web_search_options": (None,),
    # llama.cpp's
    "mirostat": (None, 0),
    "dry_multiplier": (None, 0),
    "xtc_probability": (None, 0),
    "top_n_sigma": (None, -1),
    "dynatemp_range": (None, 0),
    "samplers": (None,),
    "lora": (None, []),
    "n_predict": (None, -1),
    "n_probs": (None, 0),
    "chat_template_kwargs": (None, {}),
    # vLLM's
    "min_tokens": (None, 0),
    "stop_token_ids": (None, []),
    "bad_words": (None, []),
    "use_beam_search": (None, False),
    "prompt_logprobs": (None, 0),
    "truncate_prompt_tokens": (None,),
    "structured_outputs": (None,),
    "guided_json": (None,),
    "guided_regex": (None, ""),
    "guided_choice": (None, []),
    "guided_grammar": (None, ""),
    "chat_template": (None, ""),
    "continue_final_message": (None, False),
}
"""Parameters that are refused, with the values that change nothing and pass."""

StopText: TypeAlias = Annotated[Text, Field(max_length=STOP_LENGTH_MAX)]


class StreamOptions(BaseModel):
    """Of a streamed answer."""

    model_config = ConfigDict(strict=True)

    include_usage: bool | None = None


class InferenceBody(ModelBody, SamplingBody, ConstraintBody):
    """What chat and completions have in common."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1, le=TOKENS_MAX)] | None = None
    n: Annotated[int, Field(ge=1, le=CHOICES_MAX)] | None = None
    best_of: Annotated[int, Field(ge=1, le=CHOICES_MAX)] | None = None
    """Taken where it asks for nothing: all of the `n` answers that are made are returned."""
    stop: StopText | Annotated[Items[StopText], Field(max_length=STOP_MAX)] | None = None
    ignore_eos: bool | None = None

    not_yet: ClassVar[Mapping[str, tuple[Any, ...]]] = NOT_YET

    @property
    def include_usage(self) -> bool:
        """The stream ends with its token counts."""
        return self.stream_options is not None and self.stream_options.include_usage is True

    @property
    def choices(self) -> int:
        """Answers to each prompt."""
        return self.n or 1

    def check(self) -> None:
        """Nothing, if every parameter means something together with the others.

        Raises:
          HttpError: 400 that names the parameter.
        """
        self.require_supported()
        if self.stream_options is not None and not self.stream:
            raise HttpError(400, "`stream_options` needs `stream: true`", param="stream_options")
        if self.best_of is not None and self.best_of != self.choices:
            raise HttpError(400, "`best_of` can only be as large as `n`", param="best_of")

    def tokens_wanted(self) -> int | None:
        """How many tokens to generate at most."""
        return self.max_tokens

    def own_names(self) -> dict[str, str]:
        """What the client called fields of an `InferenceRequest`, where that is another name."""
        return {} if self.json_schema is None else {"response_format": "json_schema"}

    def common(self, request_id: RequestId) -> dict[str, Any]:
        """The fields of an `InferenceRequest` that do not depend on its kind."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return {
            "request_id": request_id,
            "model": ModelName(self.model),
            "max_tokens": self.tokens_wanted(),
            "stop": tuple(text for text in stop if text),
            "ignore_eos": self.ignore_eos is True,
            "choices": self.choices,
            "constraint": self.constraint(),
            "is_streamed": self.stream is True,
            "sampling": self.sampling(),
        }
