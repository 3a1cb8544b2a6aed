"""How `/v1/chat/completions` words its answers.

What the model thought is `reasoning_content`, as DeepSeek and llama.cpp call it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from api import sse
from api.collected import CollectedAnswer, CollectedChoice
from api.logprob_shapes import chat_logprobs
from api.shapes import TextShape
from federation.backend import Chunk, Done, ToolCallDelta


class ChatShape(TextShape):
    """`/v1/chat/completions`."""

    id_prefix = "chatcmpl"
    object_whole = "chat.completion"
    object_piece = "chat.completion.chunk"

    def opening(self) -> bytes:
        """The pieces that say who speaks, one for each choice."""
        delta = '"delta":{"role":"assistant","content":""},"finish_reason":null'
        return b"".join(self._piece(f'{{"index":{index},{delta}}}') for index in range(self._choices))

    def chunk(self, chunk: Chunk) -> bytes:
        """What came of one choice."""
        delta = []
        if chunk.reasoning:
            delta.append(f'"reasoning_content":{sse.dumps(chunk.reasoning)}')
        if chunk.text:
            delta.append(f'"content":{sse.dumps(chunk.text)}')
        if chunk.tool_calls:
            delta.append(f'"tool_calls":{sse.dumps([_call_piece(call) for call in chunk.tool_calls])}')
        logprobs = f',"logprobs":{sse.dumps(chat_logprobs(chunk.logprobs))}' if chunk.logprobs else ""
        if not delta and not logprobs:
            return b""
        said = ",".join(delta)
        return self._piece(f'{{"index":{chunk.choice},"delta":{{{said}}}{logprobs},"finish_reason":null}}')

    def closing(self, done: Done) -> bytes:
        """Why each choice ended, the token counts if wanted, and the end."""
        reasons = enumerate(done.finish_reasons)
        return self._closing(
            [f'{{"index":{index},"delta":{{}},"finish_reason":"{reason}"}}' for index, reason in reasons],
            done,
        )

    def whole(self, collected: CollectedAnswer, done: Done) -> Iterable[str]:
        """The body of an answer that is not streamed."""
        choices = collected.choices(len(done.finish_reasons))
        return self._whole(
            [
                {
                    "index": index,
                    "message": _message(choice),
                    "logprobs": chat_logprobs(choice.logprobs) if choice.logprobs else None,
                    "finish_reason": reason,
                }
                for index, (choice, reason) in enumerate(zip(choices, done.finish_reasons, strict=True))
            ],
            done,
        )


def _call_piece(call: ToolCallDelta) -> dict[str, Any]:
    if not call.id and not call.name:
        return {"index": call.index, "function": {"arguments": call.arguments}}
    return {
        "index": call.index,
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _message(choice: CollectedChoice) -> dict[str, Any]:
    # OpenAI: null where there are only calls.
    content = choice.text or None if choice.calls else choice.text
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    if choice.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": "".join(call.arguments)},
            }
            for _, call in sorted(choice.calls.items())
        ]
    return message
