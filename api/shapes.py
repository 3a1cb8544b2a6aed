"""How OpenAI words an answer of text: what chat completions and completions have in common.

A streamed piece is one short JSON object per token. What all pieces of an answer
share is encoded once, so a token costs little more than the encoding of its text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from api import sse
from api.collected import CollectedAnswer
from federation.backend import Chunk, Done, RequestId, Usage
from ledger.records import ModelName


class AnswerShape(Protocol):
    """How one endpoint words its answers."""

    def whole(self, collected: CollectedAnswer, done: Done) -> Iterable[str]:
        """The body of an answer that is not streamed, in pieces of JSON that are made one by one.

        Raises:
          FederationError: the answer is none.
        """


class StreamShape(AnswerShape, Protocol):
    """How one endpoint words its answers, streamed or not."""

    def opening(self) -> bytes:
        """Events before the first token."""

    def chunk(self, chunk: Chunk) -> bytes:
        """The event of one chunk; nothing, if a client would see nothing of it."""

    def closing(self, done: Done) -> bytes:
        """Events after the last token."""


class TextShape:
    """The fields around the choices."""

    id_prefix: str
    object_whole: str
    object_piece: str

    def __init__(
        self,
        request_id: RequestId,
        model: ModelName,
        *,
        created: int,
        version: str,
        choices: int = 1,
        include_usage: bool = False,
    ) -> None:
        self._choices = choices
        self._include_usage = include_usage
        self._head = {
            "id": f"{self.id_prefix}-{request_id}",
            "created": created,
            "model": model,
            "system_fingerprint": f"localai-node-{version}",
        }
        shared: dict[str, Any] = {**self._head, "object": self.object_piece}
        if include_usage:
            shared["usage"] = None  # OpenAI: null on every piece but the last.
        self._piece_head = sse.dumps(shared).removesuffix("}")

    def _piece(self, choice: str) -> bytes:
        return f'data: {self._piece_head},"choices":[{choice}]}}\n\n'.encode()

    def _closing(self, last_pieces: Sequence[str], done: Done) -> bytes:
        body = b"".join(self._piece(piece) for piece in last_pieces)
        if self._include_usage:
            body += sse.event(
                {**self._head, "object": self.object_piece, "choices": [], "usage": _usage(done.usage)}
            )
        return body + sse.DONE

    def _whole(self, choices: Sequence[dict[str, Any]], done: Done) -> Iterable[str]:
        yield sse.dumps(
            {**self._head, "object": self.object_whole, "choices": choices, "usage": _usage(done.usage)}
        )


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
