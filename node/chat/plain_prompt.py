"""The prompt for a model that has no chat template: a dialogue in plain words.

    System: You are helpful.
    User: What is the capital of France?
    Assistant:

Base models have seen such transcripts and go on with an answer, then with the next
speaker, which is where `PLAIN_STOPS` end it. Nothing here is a special token, so the
whole prompt is text; a user who writes "Assistant:" plays that part.
"""

from __future__ import annotations

from collections.abc import Sequence

from node.chat.messages import ChatMessage

PLAIN_STOPS = ("\nUser:", "\nSystem:")
"""Where the model starts to speak for somebody else."""

_SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool"}


def plain_prompt(messages: Sequence[ChatMessage]) -> str:
    """`messages` as a dialogue in which the assistant speaks next."""
    lines = [f"{_SPEAKERS[message['role']]}: {message['content'].strip()}" for message in messages]
    return "\n".join([*lines, "Assistant:"])
