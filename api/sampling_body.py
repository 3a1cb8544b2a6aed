"""How tokens are chosen: OpenAI's parameters, and those that llama.cpp, LocalAI and vLLM have besides."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from api.body_types import TOKENS_MAX
from api.errors import HttpError
from federation.backend import Sampling
from federation.request_limits import LOGIT_BIAS_MAX

_BIAS_MAX = 100
"""OpenAI's limit: it makes a token certain, or impossible."""


def _biases(value: Any) -> Any:  # noqa: ANN401 (any JSON)
    if not isinstance(value, dict):
        return value
    if len(value) > LOGIT_BIAS_MAX:
        raise ValueError(f"{len(value)} tokens have a bias, {LOGIT_BIAS_MAX} may have one")
    for token, bias in value.items():
        is_id = token.isascii() and token.isdecimal() and len(token) <= 10 and int(token) <= TOKENS_MAX
        if not is_id:
            raise ValueError(f"{token[:20]!r} is not the id of a token")
        if isinstance(bias, bool) or not isinstance(bias, int | float) or not abs(bias) <= _BIAS_MAX:
            raise ValueError(f"the bias of {token} is not a number from -{_BIAS_MAX} to {_BIAS_MAX}")
    return value


Share = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
RepeatPenalty = Annotated[float, Field(gt=0, le=10)]
"""llama.cpp divides by it; above 2 hardly any text is left."""


class SamplingBody(BaseModel):
    """What is left out, or null, is as the model's file says."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Field(ge=0, le=TOKENS_MAX)] | None = None
    min_p: Share | None = None
    typical_p: Share | None = None
    repeat_penalty: RepeatPenalty | None = None
    repetition_penalty: RepeatPenalty | None = None
    """vLLM's name of `repeat_penalty`."""
    repeat_last_n: Annotated[int, Field(ge=-1, le=TOKENS_MAX)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[str, float], BeforeValidator(_biases)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None

    def sampling(self) -> Sampling:
        """The same for a backend.

        Raises:
          HttpError: 400; two names of one parameter say two things.
        """
        return Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            typical_p=self.typical_p,
            repeat_penalty=self._repeat_penalty(),
            repeat_last_n=self.repeat_last_n,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias={int(token): bias for token, bias in (self.logit_bias or {}).items()} or None,
            seed=self.seed,
        )

    def _repeat_penalty(self) -> float | None:
        if self.repetition_penalty is None:
            return self.repeat_penalty
        if self.repeat_penalty not in (None, self.repetition_penalty):
            param = "repetition_penalty"
            raise HttpError(
                400, f"`{param}` is another name of `repeat_penalty`, which says otherwise", param=param
            )
        return self.repetition_penalty
