"""How OpenAI words an answer: the JSON of chat completions and of completions.

A streamed piece is one short JSON object per token. What all pieces of an answer
share is encoded once, so a token costs little more than the encoding of its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from api import sse
from federation.backend import Chunk, Done, RequestId, Usage
from ledger.records import ModelName


class _Shape:
    """What both kinds have in common: the fields around the choices."""

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
        include_usage: bool = False,
    ) -> None:
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

    def _piece(self, choices: str) -> bytes:
        return f'data: {self._piece_head},"choices":[{choices}]}}\n\n'.encode()

    def _closing(self, last_pieces: Sequence[str], done: Done) -> bytes:
        body = b"".join(self._piece(piece) for piece in last_pieces)
        if self._include_usage:
            body += sse.event(
                {**self._head, "object": self.object_piece, "choices": [], "usage": _usage(done.usage)}
            )
        return body + sse.DONE

    def _whole(self, choices: Sequence[dict[str, Any]], done: Done) -> dict[str, Any]:
        return {**self._head, "object": self.object_whole, "choices": choices, "usage": _usage(done.usage)}


class ChatShape(_Shape):
    """`/v1/chat/completions`."""

    id_prefix = "chatcmpl"
    object_whole = "chat.completion"
    object_piece = "chat.completion.chunk"

    def opening(self) -> bytes:
        """The piece that says who speaks."""
        return self._piece('{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}')

    def chunk(self, chunk: Chunk) -> bytes:
        """One piece of text."""
        text = sse.dumps(chunk.text)
        return self._piece(f'{{"index":{chunk.choice},"delta":{{"content":{text}}},"finish_reason":null}}')

    def closing(self, done: Done) -> bytes:
        """Why each choice ended, the token counts if wanted, and the end."""
        reasons = enumerate(done.finish_reasons)
        return self._closing(
            [f'{{"index":{index},"delta":{{}},"finish_reason":"{reason}"}}' for index, reason in reasons],
            done,
        )

    def whole(self, texts: Sequence[str], done: Done) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        return self._whole(
            [
                {
                    "index": index,
                    "message": {"role": "assistant", "content": text, "refusal": None},
                    "logprobs": None,
                    "finish_reason": reason,
                }
                for index, (text, reason) in enumerate(zip(texts, done.finish_reasons, strict=True))
            ],
            done,
        )


class CompletionShape(_Shape):
    """`/v1/completions`."""

    id_prefix = "cmpl"
    object_whole = "text_completion"
    object_piece = "text_completion"

    def opening(self) -> bytes:
        """Nothing: a completion has no role."""
        return b""

    def chunk(self, chunk: Chunk) -> bytes:
        """One piece of text."""
        text = sse.dumps(chunk.text)
        return self._piece(f'{{"index":{chunk.choice},"text":{text},"logprobs":null,"finish_reason":null}}')

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

    def whole(self, texts: Sequence[str], done: Done) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        return self._whole(
            [
                {"index": index, "text": text, "logprobs": None, "finish_reason": reason}
                for index, (text, reason) in enumerate(zip(texts, done.finish_reasons, strict=True))
            ],
            done,
        )


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
