from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import trio

from node.chat.messages import ChatMessage
from node.chat.prompt import ChatPrompt, chat_prompt
from node.chat.template import SpecialTokens
from node.engine.wire import ModelFacts, PromptPart


class Renderer:
    async def render(self, template: str, values: Mapping[str, Any]) -> str:
        await trio.lowlevel.checkpoint()
        return template.format(values["messages"][0]["content"])


def test_messages_are_taken_apart_and_cut_outside_of_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    # Either takes up to seconds where a message is full of special tokens.
    threads: list[int] = []
    protect, split = SpecialTokens.protect, SpecialTokens.split

    def noted_protect(
        self: SpecialTokens, messages: Sequence[ChatMessage], template: str
    ) -> tuple[list[ChatMessage], str]:
        threads.append(threading.get_ident())
        return protect(self, messages, template)

    def noted_split(self: SpecialTokens, rendered: str, marker: str) -> tuple[PromptPart, ...]:
        threads.append(threading.get_ident())
        return split(self, rendered, marker)

    monkeypatch.setattr(SpecialTokens, "protect", noted_protect)
    monkeypatch.setattr(SpecialTokens, "split", noted_split)
    facts = ModelFacts(64, 99, None, "<s>", "</s>", ("<s>", "</s>"), (1, 2))

    async def main() -> ChatPrompt:
        messages = [{"role": "user", "content": "say </s>"}]
        return await chat_prompt(messages, facts, template="<s>{}</s>", renderer=Renderer())

    assert trio.run(main).parts == (
        PromptPart("<s>say ", parse_special=True),
        PromptPart("</s>", parse_special=False),
        PromptPart("</s>", parse_special=True),
    )
    assert len(threads) == 2
    assert threading.get_ident() not in threads
