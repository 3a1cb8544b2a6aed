"""Chat messages as the prompt of one model: by its template, else as a plain dialogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import trio

from node.chat.described_tools import describe_tools
from node.chat.formats.choice import ChosenFormat, choose_format
from node.chat.messages import ChatMessage, check_messages
from node.chat.native_calls import native_messages
from node.chat.plain_prompt import PLAIN_STOPS, plain_prompt
from node.chat.template import SpecialTokens
from node.chat.tools import ToolUse
from node.engine.wire import ModelFacts, PromptPart


class Renders(Protocol):
    """What renders a template: `renderer.ChatRenderer`."""

    async def render(self, template: str, values: Mapping[str, Any]) -> str:
        """What `template` makes of `values`."""


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """What the engine gets."""

    parts: tuple[PromptPart, ...]
    stops: tuple[str, ...] = ()
    """Where an answer to this prompt ends, besides the model's own end."""

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(part.text for part in self.parts)


async def chat_prompt(
    messages: Sequence[Mapping[str, Any]],
    facts: ModelFacts,
    *,
    template: str | None,
    renderer: Renders,
    tools: ToolUse | None = None,
    chosen: ChosenFormat | None = None,
) -> ChatPrompt:
    """The prompt that `messages` are for the model of `facts`; `template` goes before the model's own.

    `tools` are shown as `chosen` says; None: as the template tells.

    Raises:
      BadMessages, TemplateFailed, RendererUnavailable: as their names say.
    """
    template = template or facts.chat_template or ""
    chosen = chosen or choose_format(template)
    if not template and tools is None:
        return _dialogue(_fitting(messages, tools, chosen, template))
    # In threads: a large vocabulary, or megabytes of JSON or of tokens in a message, take up to seconds.
    checked = await trio.to_thread.run_sync(_fitting, messages, tools, chosen, template)
    if not template:
        return _dialogue(checked)
    shown = [tool.shape for tool in tools.shown] if tools and chosen.is_native else []
    special_tokens = await trio.to_thread.run_sync(_special_tokens, facts.special_tokens)
    written, marker = await trio.to_thread.run_sync(special_tokens.protect, [*checked, *shown], template)
    rendered = await renderer.render(
        template,
        {
            "messages": written[: len(checked)],
            "add_generation_prompt": True,
            "bos_token": facts.bos,
            "eos_token": facts.eos,
            # Templates ask for these without asking first whether they are there.
            "tools": written[len(checked) :] or None,
            "documents": None,
        },
    )
    return ChatPrompt(await trio.to_thread.run_sync(special_tokens.split, rendered, marker))


def _dialogue(messages: Sequence[ChatMessage]) -> ChatPrompt:
    return ChatPrompt((PromptPart(plain_prompt(messages), parse_special=False),), PLAIN_STOPS)


def _fitting(
    messages: Sequence[Mapping[str, Any]], tools: ToolUse | None, chosen: ChosenFormat, template: str
) -> list[ChatMessage]:
    """`messages`, checked, with tools and calls as the template takes them."""
    checked = check_messages(messages)
    if chosen.is_native:
        return native_messages(checked, chosen.format, template)
    return describe_tools(checked, tools, chosen.format, template)


@lru_cache(maxsize=64)
def _special_tokens(texts: tuple[str, ...]) -> SpecialTokens:
    """One for each model of a node."""
    return SpecialTokens(texts)
