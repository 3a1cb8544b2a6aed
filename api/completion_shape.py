"""How `/v1/completions` words its answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property

from api import sse
from api.collected import CollectedAnswer
from api.logprob_shapes import CompletionLogprobs
from api.shapes import TextShape
from federation.backend import Chunk, Done


class CompletionShape(TextShape):
    """`/v1/completions`. Of one answer: it keeps count of how much text each choice has."""

    id_prefix = "cmpl"
    object_whole = "text_completion"
    object_piece = "text_completion"

    @cached_property
    def _logprobs(self) -> defaultdict[int, CompletionLogprobs]:
        """By choice."""
        return defaultdict(CompletionLogprobs)

    def opening(self) -> bytes:
        """Nothing: a completion has no role."""
        return b""

    def chunk(self, chunk: Chunk) -> bytes:
        """One piece of text."""
        if not chunk.text and not chunk.logprobs:
            return b""
        logprobs = "null"
        if chunk.logprobs:
            logprobs = sse.dumps(self._logprobs[chunk.choice].words(chunk.logprobs))
        text = sse.dumps(chunk.text)
        return self._piece(
            f'{{"index":{chunk.choice},"text":{text},"logprobs":{logprobs},"finish_reason":null}}'
        )

    def closing(self, done: Done) -> bytes:
        """Why each choice ended, the token counts if wanted, and the end."""
        reasons = enumerate(done.finish_reasons)
        return self._closing(
            [
                f'{{"index":{index},"text":"","logprobs":null,"finish_reason":"{reason}"}}'
                for index, reason in reasons
            ],
            done,
        )

    def whole(self, collected: CollectedAnswer, done: Done) -> Iterable[str]:
        """The body of an answer that is not streamed."""
        choices = collected.choices(len(done.finish_reasons))
        return self._whole(
            [
                {
                    "index": index,
                    "text": choice.text,
                    "logprobs": CompletionLogprobs().words(choice.logprobs) if choice.logprobs else None,
                    "finish_reason": reason,
                }
                for index, (choice, reason) in enumerate(zip(choices, done.finish_reasons, strict=True))
            ],
            done,
        )
