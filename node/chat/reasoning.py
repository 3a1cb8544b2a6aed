"""What a model thinks before it answers, told apart from the answer: `<think>` ... `</think>`.

    prompt ends with        generated                                reasoning
    <|im_start|>assistant   <think>Hm.</think>\\n\\nHello              Hm.
    <think>\\n               Hm.</think>\\n\\nHello                     Hm.      (DeepSeek R1, Qwen 3)

Only at the beginning of an answer: later on the tag is text about tags. Whitespace
after either tag belongs to nobody. Reasoning that never ends is reasoning; that is
what happens when an answer reaches its length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from node.chat.formats.call_pattern import CallMatch, call_pattern
from node.chat.partial_text import length_that_begins

THINK, THINK_END = "<think>", "</think>"

ReasoningMode: TypeAlias = Literal["never", "possible", "begun"]
"""Whether an answer begins with reasoning; "begun": its tag is at the end of the prompt."""

_BEGIN = call_pattern(f" {THINK}")
_BEGUN = re.compile(rf"{THINK}\s*\Z")
_BLANKS = " \t\r\n"


def reasoning_mode(template: str, rendered: str) -> ReasoningMode:
    """Whether the model with `template` thinks when its prompt is `rendered`.

    A model that was trained to think has a template that takes reasoning out of earlier turns, or writes an
    empty one to keep the model from it: either way the closing tag stands in it.
    """
    if _BEGUN.search(rendered[-64:]):
        return "begun"
    return "possible" if THINK_END in template else "never"


@dataclass(slots=True)
class ReasoningSplitter:
    """Of one answer. Text in pieces of any size; put together, what comes out follows from the text alone."""

    mode: ReasoningMode
    """"never": everything is answer. "possible" and "begun" while it is thinking."""
    _state: Literal["start", "gap", "thinking", "after", "answer"] = "start"
    _held: str = ""

    def __post_init__(self) -> None:
        if self.mode == "never":
            self._state = "answer"

    def feed(self, text: str) -> tuple[str, str]:
        """What is certainly answer, and what certainly reasoning, now that `text` is there."""
        self._held += text
        reasoning = ""
        if self._state == "start":
            self._take_start()
        if self._state == "gap":
            self._skip_blanks("thinking")
        if self._state == "thinking":
            reasoning = self._take_reasoning()
        if self._state == "after":
            self._skip_blanks("answer")
        answer = ""
        if self._state == "answer":
            answer, self._held = self._held, ""
        return answer, reasoning

    def finish(self) -> tuple[str, str]:
        """What was held back for a tag that never came."""
        held, self._held = self._held, ""
        is_reasoning = self._state == "thinking" or (self._state == "start" and self.mode == "begun")
        return ("", held) if is_reasoning else (held, "")

    def _take_start(self) -> None:
        match _BEGIN.match(self._held):
            case CallMatch(end):
                self._held = self._held[end:]
                self._state = "gap"
            case "never":
                # Some models open it once more although their prompt did.
                self._state = "gap" if self.mode == "begun" else "answer"

    def _take_reasoning(self) -> str:
        text, tag, rest = self._held.partition(THINK_END)
        if tag:
            self._held, self._state = rest, "after"
            return text
        length = len(text) - length_that_begins(THINK_END, text)
        self._held = text[length:]
        return text[:length]

    def _skip_blanks(self, then: Literal["thinking", "answer"]) -> None:
        self._held = self._held.lstrip(_BLANKS)
        if self._held:
            self._state = then
