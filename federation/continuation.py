"""Continuation: what was delivered of one answer, so that somebody else can go on with it.

    chunks --> token ids and ends of each choice --> a request that resumes after them
    Done of who came last -------------------------> Done of the whole answer

Going on needs three things: the hash of the prompt's token ids, which the next peer checks; the hash of
the model's file, since the same ids mean something else to another one; and all ids that were delivered.
What a server of another program generates has none of them.

Reads no clock, and knows no peers.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from federation.backend import (
    Answer,
    Chunk,
    Delivered,
    Done,
    FinishReason,
    InferenceRequest,
    Resume,
    Timings,
    Usage,
)
from federation.model_reference import ModelReference
from ledger.records import ModelName

KEPT_TOKENS_MAX = 2**19
"""Of all choices together: 2 MiB here, and 2.6 MB in the frame that asks the next peer, which may have 4.
Contexts are smaller, but for the longest there are."""

_NO_PROMPT = bytes(32)


@dataclass(slots=True)
class _Choice:
    """What was delivered of one."""

    # Four bytes each; a list of numbers would take nine times as much.
    token_ids: array[int] = field(default_factory=lambda: array("i"))
    finish_reason: FinishReason | None = None


class Continuation:
    """Takes note of one answer to `request`, which may itself go on with what was delivered before."""

    def __init__(self, request: InferenceRequest) -> None:
        self._request = request
        self._is_generated = request.kind in ("chat", "completion")
        self._sha256 = ModelReference.parse(request.model).sha256
        self._prompt_sha256 = _NO_PROMPT
        self._prompt_tokens = 0
        self._choices = [_Choice() for _ in range(request.choices)]
        if request.resume is not None:
            for choice, before in zip(self._choices, request.resume.choices, strict=False):
                choice.token_ids.extend(before.token_ids)
                choice.finish_reason = before.finish_reason

    @property
    def tokens(self) -> int:
        """How many tokens were generated, as far as their ids are known."""
        return sum(len(choice.token_ids) for choice in self._choices)

    def accepted(self, answer: Answer, sha256: str) -> None:
        """Somebody serves it from now on, with a file of that hash in hex; empty: it is not known yet."""
        self._prompt_sha256 = answer.prompt_sha256
        self._prompt_tokens = answer.prompt_tokens
        self.identified(sha256)

    def identified(self, sha256: str) -> None:
        """The hash of the file is known now, unless it is empty."""
        self._sha256 = self._sha256 or sha256

    def note(self, chunk: Chunk) -> None:
        """`chunk` is part of the answer."""
        if not self._is_generated:
            return
        choice = self._choices[chunk.choice]
        choice.token_ids.extend(chunk.token_ids)
        if chunk.finish_reason is not None:
            choice.finish_reason = chunk.finish_reason

    def obstacle(self) -> str:
        """Why nobody could go on with it, for a person; empty: somebody could."""
        if not self._is_generated:
            return "such an answer has no tokens to go on from"
        if self._prompt_sha256 == _NO_PROMPT:
            return "who served it tells no token ids"
        if not self._sha256:
            return "the hash of the model's file was not known yet"
        if self.tokens > KEPT_TOKENS_MAX:
            return f"more than {KEPT_TOKENS_MAX} tokens are not kept"
        return ""

    def onward(self) -> InferenceRequest:
        """What to ask of somebody else, where there is no obstacle: the rest of the answer."""
        assert not self.obstacle()
        name = ModelReference.parse(self._request.model).name
        return replace(
            self._request,
            model=ModelName(f"{name}@sha256:{self._sha256}"),
            resume=Resume(self._prompt_sha256, tuple(map(_delivered, self._choices))),
        )

    def ended(self) -> Done | None:
        """The end, if it is all that is missing: each choice has said why it ended."""
        reasons = self._reasons()
        if not self._is_generated or len(reasons) < len(self._choices):
            return None
        # What the worker measured went with it.
        return Done(tuple(reasons.values()), Usage(self._prompt_tokens, self.tokens), Timings())

    def whole(self, done: Done) -> Done:
        """The end of the whole answer, where `done` is what the last one to serve it said.

        It has counted what it resumed from, and read the prompt once more, which is nobody's business.
        """
        reasons = self._reasons()
        said: Sequence[FinishReason] = done.finish_reasons
        return replace(
            done, finish_reasons=tuple(reasons.get(number, reason) for number, reason in enumerate(said))
        )

    def _reasons(self) -> dict[int, FinishReason]:
        return {
            number: choice.finish_reason
            for number, choice in enumerate(self._choices)
            if choice.finish_reason is not None
        }


def _delivered(choice: _Choice) -> Delivered:
    return Delivered(tuple(choice.token_ids), choice.finish_reason)
