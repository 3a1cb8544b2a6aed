"""What a request takes, estimated before anybody was asked.

    prompt    characters, over characters per token as this model's prompts turned out
    answer    `max_tokens`, and how long this model's answers turn out where nothing ends them

Lengths of answers are taken to be exponential: however much came already, the model stops with the
same probability at each token. That is nearly so, needs one number, and says what is left of an
answer that is longer than expected, which a mean alone does not. Answers that were cut at
`max_tokens` count with their tokens and not as an end, or the mean would follow the clients' limits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from federation.backend import FinishReason, InferenceRequest, PolicyName, RequestKind, slots_of
from federation.model_reference import ModelReference
from federation.prefix import Prefix, prefix_of
from federation.recent import Recent
from ledger.records import ModelName

_CHARACTERS_PER_TOKEN = 4.0
"""Of English with the usual vocabularies, until a model's own prompts say otherwise."""
_MESSAGE_TOKENS = 5
"""That a template puts around each message: role, marks and a line's end."""
_ANSWER_TOKENS = 200.0
"""Of an answer that nothing cuts: a paragraph or two, until a model's own answers say otherwise."""
_FADE = 0.98
"""What an answer keeps of its weight with each one that follows: the last fifty count. Lengths scatter
widely, so fewer would follow chance."""
_PRIOR_ANSWERS = 4.0
"""Answers that what we believe without any counts as."""
_MODELS_MAX = 256
"""Models whose lengths are kept: more than a home has, and a client cannot make them up, for only those
that were served are kept."""
_TOKENS_PER_CHARACTER_MAX = 4
"""Its bytes in UTF-8, each a token of its own."""
_TEMPLATE_TOKENS_MAX = 1024
"""That a model's template writes of its own: how tools are to be called, and who the assistant is."""


@dataclass(frozen=True, slots=True)
class Work:
    """One request, as what it takes and where it may go."""

    model: ModelReference
    kind: RequestKind = "chat"
    slots: int = 1
    """0: what is looked up takes none."""
    prompt_tokens: float = 0.0
    answer_tokens: float = 0.0
    """Expected, of one choice; 0 where nothing is generated."""
    max_tokens: int | None = None
    ignores_end: bool = False
    """The model may not stop by itself."""
    choices: int = 1
    is_resumed: bool = False
    """It goes on after what was delivered, which is read like a prompt."""
    prefix: Prefix = field(default_factory=Prefix)
    policy: PolicyName | None = None
    """None: the swarm's."""
    only: tuple[tuple[str, ...], ...] = ()
    """Lists of nodes, by name or label: who serves it is in each of them."""
    prefer: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()

    def credible(self, prompt_tokens: int) -> int:
        """What a peer says that it found in the prompt, or the most that can be in it.

        One lie must not outweigh all that follows, nor put who asked into a debt that no fair share pays.
        """
        most = _TOKENS_PER_CHARACTER_MAX * self.prefix.characters + self.prefix.ids + _TEMPLATE_TOKENS_MAX
        return min(prompt_tokens, most)


@dataclass(slots=True)
class _Lengths:
    """Of one model, as fading sums."""

    characters: float = _PRIOR_ANSWERS * _CHARACTERS_PER_TOKEN * 100
    prompt_tokens: float = _PRIOR_ANSWERS * 100
    answer_tokens: float = _PRIOR_ANSWERS * _ANSWER_TOKENS
    ends: float = _PRIOR_ANSWERS

    @property
    def per_token(self) -> float:
        """Characters."""
        return self.characters / self.prompt_tokens

    @property
    def answer_mean(self) -> float:
        return self.answer_tokens / max(self.ends, 1 / _ANSWER_TOKENS)

    def read(self, characters: int, tokens: int) -> None:
        if characters > 0 and tokens > 0:
            self.characters = _FADE * self.characters + characters
            self.prompt_tokens = _FADE * self.prompt_tokens + tokens

    def answered(self, tokens: float, ends: int) -> None:
        if tokens > 0:
            self.answer_tokens = _FADE * self.answer_tokens + tokens
            self.ends = _FADE * self.ends + ends


class WorkEstimator:
    """Learns from answers what requests take. Reads no clock."""

    def __init__(self) -> None:
        self._lengths: Recent[ModelName, _Lengths] = Recent(_MODELS_MAX)

    def work(self, request: InferenceRequest) -> Work:
        """What `request` takes, whose model's name is no alias any more."""
        reference, routing = ModelReference.parse(request.model), request.routing
        lengths = self._lengths.get(reference.name) or _Lengths()
        prefix = prefix_of(request)
        around = _MESSAGE_TOKENS * len(request.messages)
        delivered = [len(choice.token_ids) for choice in request.resume.choices] if request.resume else []
        max_tokens = request.max_tokens
        if request.kind not in ("chat", "completion"):
            max_tokens = 0
        elif max_tokens is not None:
            max_tokens = max(max_tokens - max(delivered, default=0), 0)
        work = Work(
            model=reference,
            kind=request.kind,
            slots=slots_of(request),
            prompt_tokens=prefix.ids + prefix.characters / lengths.per_token + around + sum(delivered),
            max_tokens=max_tokens,
            ignores_end=request.ignore_eos,
            choices=request.choices,
            is_resumed=request.resume is not None,
            prefix=prefix,
            policy=routing.policy,
            only=tuple(names for names in (routing.only, routing.only_by_alias) if names),
            prefer=routing.prefer,
            avoid=routing.avoid,
        )
        return replace(work, answer_tokens=self.remaining(work, 0.0))

    def remaining(self, work: Work, tokens: float) -> float:
        """Expected still to come of each choice of `work`, after `tokens` of it came."""
        mean = self.typical_answer(work.model.name)
        if work.max_tokens is None:
            return mean
        left = max(work.max_tokens - tokens, 0.0)
        return left if work.ignores_end else mean * -math.expm1(-left / mean)

    def typical_answer(self, model: ModelName) -> float:
        """Tokens of an answer that nothing cuts."""
        return (self._lengths.get(model) or _Lengths()).answer_mean

    def accepted(self, work: Work, prompt_tokens: int) -> None:
        """Somebody read the prompt of `work` and found so many tokens in it; 0: it does not say."""
        if not work.is_resumed:
            found = work.credible(prompt_tokens) - work.prefix.ids
            self._of(work.model.name).read(work.prefix.characters, found)

    def answered(self, work: Work, tokens: float, finish_reasons: Sequence[FinishReason]) -> None:
        """An answer to `work` came to its end, after `tokens` that we counted ourselves."""
        if work.max_tokens != 0 and not work.is_resumed:
            ends = sum(reason != "length" for reason in finish_reasons)
            self._of(work.model.name).answered(tokens, ends)

    def _of(self, model: ModelName) -> _Lengths:
        lengths = self._lengths.get(model)
        if lengths is None:
            lengths = _Lengths()
            self._lengths.put(model, lengths)
        return lengths
