"""Continuation: what was delivered of one answer, so that somebody else can go on with it.

    chunks --> token ids and ends of each choice --> a request that resumes after them
           --> text, where no ids are known -------> a request whose prompt ends with it
    Done of who came last -------------------------> Done of the whole answer

Resuming needs three things: the hash of the prompt's token ids, which the next peer checks; the hash of
the model's file, since the same ids mean something else to another one; and all ids that were delivered.
What a server of another program generates has none of them. Where the client allows it, another one reads
the text and goes on: tokens may be cut elsewhere at the seam, so it is no longer quite the same answer.

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

KEPT_TEXT_MAX = 2**20
"""Characters, of an answer without ids: it goes into the next prompt, and so into one frame."""

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
        """Of which what was noted is the answer."""
        self._is_generated = request.kind in ("chat", "completion")
        self._sha256 = ModelReference.parse(request.model).sha256
        self._prompt_sha256 = _NO_PROMPT
        self._prompt_tokens = 0
        self._choices = [_Choice() for _ in range(request.choices)]
        self._keeps_text = _may_go_on_by_text(request)
        self._text: list[str] = []
        self._text_length = 0
        self._counted = 0
        """Tokens whose ids are not known, or not kept."""
        self._kept = 0
        """Tokens whose ids are, of all choices."""
        self._in_prompt = 0
        """Tokens of the answer that the prompt of `request` ends with."""
        if request.resume is not None:
            for choice, before in zip(self._choices, request.resume.choices, strict=False):
                choice.token_ids.extend(before.token_ids)
                self._kept += len(before.token_ids)
                choice.finish_reason = before.finish_reason

    @property
    def tokens(self) -> int:
        """How many tokens were generated, as far as anybody can tell."""
        return self._in_prompt + self._counted + self._kept

    def accepted(self, asked: InferenceRequest, answer: Answer, sha256: str) -> None:
        """Somebody serves what was `asked` from now on, with a file of that hash in hex; empty: it is not
        known yet."""
        if self._text and asked.resume is None:
            self._in_prompt = self.tokens
            self._request = asked
            self._sha256 = ModelReference.parse(asked.model).sha256
            self._choices = [_Choice()]
            self._text, self._counted, self._kept = [], 0, 0
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
        if self._kept <= KEPT_TOKENS_MAX:
            choice.token_ids.extend(chunk.token_ids)
            self._kept += len(chunk.token_ids)
        else:
            self._counted += len(chunk.token_ids)
        if chunk.finish_reason is not None:
            choice.finish_reason = chunk.finish_reason
        if self._prompt_sha256 == _NO_PROMPT:
            # Servers that tell no ids send a token at a time, almost everywhere.
            self._counted += 1
        if self._keeps_text and self._text_length <= KEPT_TEXT_MAX:
            self._keeps_text = not (chunk.reasoning or chunk.tool_calls)
            if chunk.text:
                self._text.append(chunk.text)
                self._text_length += len(chunk.text)

    def obstacle(self) -> str:
        """Why nobody could go on with it, for a person; empty: somebody could."""
        if not self._is_generated:
            return "such an answer has no tokens to go on from"
        if self._prompt_sha256 == _NO_PROMPT:
            return self._obstacle_to_text()
        if not self._sha256:
            return "the hash of the model's file was not known yet"
        if self.tokens > KEPT_TOKENS_MAX:
            return f"more than {KEPT_TOKENS_MAX} tokens are not kept"
        return ""

    def _obstacle_to_text(self) -> str:
        if not self._request.routing.resumes_by_text:
            return "who served it tells no token ids, and the client did not allow to go on by text"
        if not self._keeps_text:
            return "by text only one plain answer can be gone on with"
        if self._text_length > KEPT_TEXT_MAX:
            return f"more than {KEPT_TEXT_MAX} characters are not kept"
        return ""

    def onward(self) -> InferenceRequest:
        """What to ask of somebody else, where there is no obstacle: the rest of the answer."""
        assert not self.obstacle()
        if self._prompt_sha256 == _NO_PROMPT:
            if not self._text:
                # Nothing came of it: whoever can begin it will do.
                return self._request
            limit = self._request.max_tokens
            left = replace(self._request, max_tokens=None if limit is None else limit - self._counted)
            return _begun_with("".join(self._text), left)
        name = ModelReference.parse(self._request.model).name
        return replace(
            self._request,
            model=ModelName(f"{name}@sha256:{self._sha256}"),
            resume=Resume(self._prompt_sha256, tuple(map(_delivered, self._choices))),
        )

    def ended(self) -> Done | None:
        """The end, if it is all that is missing: each choice has said why it ended, or has all its tokens."""
        if not self._is_generated:
            return None
        reasons = self._reasons()
        limit = self._request.max_tokens
        if self._keeps_text and limit is not None and self._counted >= limit:
            reasons.setdefault(0, "length")
        if len(reasons) < len(self._choices):
            return None
        # What the worker measured went with it.
        usage = Usage(max(self._prompt_tokens - self._in_prompt, 0), self.tokens)
        return Done(tuple(reason for _, reason in sorted(reasons.items())), usage, Timings())

    def whole(self, done: Done) -> Done:
        """The end of the whole answer, where `done` is what the last one to serve it said.

        Who resumed counted what it resumed from, and read the prompt once more, which is nobody's business.
        """
        reasons = self._reasons()
        said: Sequence[FinishReason] = done.finish_reasons
        usage = done.usage
        if self._in_prompt:
            prompt_tokens = max(usage.prompt_tokens - self._in_prompt, 0)
            usage = Usage(
                prompt_tokens,
                usage.completion_tokens + self._in_prompt,
                min(usage.cached_tokens, prompt_tokens),
            )
        return replace(
            done,
            finish_reasons=tuple(reasons.get(number, reason) for number, reason in enumerate(said)),
            usage=usage,
        )

    def _reasons(self) -> dict[int, FinishReason]:
        return {
            number: choice.finish_reason
            for number, choice in enumerate(self._choices)
            if choice.finish_reason is not None
        }


def _delivered(choice: _Choice) -> Delivered:
    return Delivered(tuple(choice.token_ids), choice.finish_reason)


def _may_go_on_by_text(request: InferenceRequest) -> bool:
    """Whether the text of an answer, put after the prompt, is all that the next one need know."""
    return (
        request.routing.resumes_by_text
        and request.kind in ("chat", "completion")
        and isinstance(request.prompt, str)
        and request.choices == 1
        and not request.tools
        and request.constraint is None
        and request.top_logprobs is None
        and not (request.suffix or request.is_echoed)
    )


def _begun_with(text: str, request: InferenceRequest) -> InferenceRequest:
    """`request` for what comes after `text`."""
    if request.kind == "completion":
        assert isinstance(request.prompt, str)
        return replace(request, prompt=request.prompt + text)
    *before, last = request.messages
    if not request.is_begun:
        before, last = [*before, last], {"role": "assistant", "content": ""}
    return replace(
        request, messages=(*before, {**last, "content": f"{last.get('content') or ''}{text}"}), is_begun=True
    )
