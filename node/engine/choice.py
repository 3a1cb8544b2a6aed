"""Choice: one answer to a prompt while it grows, from sampled tokens to text and an end.

    sampled --> the model's own end? --> text --> a stop string? --> grammar complete? --> long enough?

What is said follows from the request and the tokens alone. So a choice that was cut off on
another machine is the same again once its tokens were taken in here: text held back, grammar,
penalties and all.

Knows neither slots nor batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from federation.backend import Delivered, FinishReason
from node.engine.errors import PromptRefused
from node.engine.sampler import Sampled, Sampler
from node.engine.scheduler import SequenceId
from node.engine.text_stream import TextStream
from node.engine.wire import Piece


@dataclass(slots=True)
class Choice:
    """One of a request."""

    id: SequenceId
    sampler: Sampler
    text: TextStream
    length_max: int
    """Tokens, by the request's own limit or by what the context holds beside the prompt."""
    is_end: Callable[[int], bool]
    """Whether the model ends its answer with a token."""
    piece: Callable[[int], bytes]
    """The bytes of a token."""
    unsaid: str = ""
    """What its text begins with, before anything is generated: it comes with the first of that."""
    length: int = 0
    reason: FinishReason | None = None
    """Why it has ended; None while it goes on."""

    def resume(self, delivered: Delivered, is_late: Callable[[], bool]) -> str:
        """Take in what was generated of it elsewhere. Returns the text that was shown of that.

        Raises:
          PromptRefused: that cannot have come of this request, or it `is_late`.
        """
        shown = ""
        for token in delivered.token_ids:
            if is_late():
                raise PromptRefused("what was delivered takes too long to follow", param="resume")
            if self.reason is not None or self.is_end(token):
                raise PromptRefused("more was delivered than the request allows", param="resume")
            shown += self._take_in(token)
        if delivered.finish_reason is not None:
            shown += self._end(delivered.finish_reason)
        return shown

    def take(self, sampled: Sampled | None) -> Piece:
        """What is to be said of it now. It has ended if there is a `reason` afterwards.

        Raises:
          PromptRefused: its grammar cannot be followed any further.
        """
        if sampled is None or self.is_end(sampled.token):
            return Piece(*self.id, (), self._end("stop"), finish_reason=self.reason)
        text = self._take_in(sampled.token)
        return Piece(*self.id, (sampled.token,), text, sampled.logprobs, finish_reason=self.reason)

    def _take_in(self, token: int) -> str:
        self.length += 1
        if not self.sampler.accept(token):
            raise PromptRefused("the grammar is too complex, or was not followed", param="grammar")
        text = self.unsaid + self.text.feed(self.piece(token))
        self.unsaid = ""
        if self.text.stopped or self.sampler.is_over:
            return text + self._end("stop")
        if self.length >= self.length_max:
            return text + self._end("length")
        return text

    def _end(self, reason: FinishReason) -> str:
        """The text that was held back in vain, once."""
        self.reason = reason
        rest, self.unsaid = self.unsaid + self.text.finish(), ""
        return rest
