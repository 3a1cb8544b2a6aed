"""Which family a model belongs to, as far as its chat template tells.

A template that shows tools also says how they are called: the marks of the format
stand in it as text. A template that does so in a way we do not know (Functionary,
Command R, GLM, Qwen3-Coder's XML, ...) counts as one without tools: then they are
described in a system message instead, along with the generic format (`described_tools.py`),
because a model told to write one format and held to another does both badly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from node.chat.errors import ChatError
from node.chat.formats.gemma import GEMMA
from node.chat.formats.generic import GENERIC
from node.chat.formats.hermes import HERMES
from node.chat.formats.llama import LLAMA
from node.chat.formats.mistral import MISTRAL, MISTRAL_ARGS
from node.chat.formats.tool_format import ToolFormat

FORMATS = {format_.name: format_ for format_ in (HERMES, LLAMA, MISTRAL, MISTRAL_ARGS, GEMMA, GENERIC)}
"""By the name a model's YAML may say."""

_OTHER_IN_THE_SAME_TAG = ("<arg_key>", "<function=")
"""GLM 4.5 and Qwen3-Coder write XML into `<tool_call>`."""

_BORDER = re.compile(r"\{[%{#]|[%}#]\}")
_TOOLS = re.compile(r"\btools\b")


class UnknownToolFormat(ChatError):
    """There is no tool format of that name."""


@dataclass(frozen=True, slots=True)
class ChosenFormat:
    """How a model is told of tools, and how it calls them."""

    format: ToolFormat
    is_native: bool
    """The template shows tools and earlier calls itself; else we put them into words."""


def choose_format(template: str | None, named: str | None = None) -> ChosenFormat:
    """The format for a model with `template`; `named` goes before what we would guess.

    Raises:
      UnknownToolFormat: nothing is called `named`.
    """
    template = template or ""
    guessed = _format_in(template) if takes_tools(template) else None
    if named is not None:
        if named not in FORMATS:
            raise UnknownToolFormat(f"tool format {named!r} must be one of {', '.join(FORMATS)}")
        return ChosenFormat(FORMATS[named], is_native=takes_tools(template))
    if guessed is not None:
        return ChosenFormat(guessed, is_native=True)
    # Gemma's templates know no tools, but how they mark turns says whose they are.
    return ChosenFormat(GEMMA if "<start_of_turn>" in template else GENERIC, is_native=False)


def takes_tools(template: str) -> bool:
    """Whether `template` does something with `tools`: the word stands in a statement or an expression of it.

    In text between those, or in a comment, it means nothing.
    """
    end = 0
    for border in _BORDER.finditer(template):
        inside = template[end : border.start()]
        if border.group() in {"%}", "}}"} and _TOOLS.search(inside):
            return True
        end = border.end()
    return False


def _format_in(template: str) -> ToolFormat | None:
    if "[TOOL_CALLS]" in template:
        return MISTRAL_ARGS if "[ARGS]" in template else MISTRAL
    if "<tool_call>" in template:
        return None if any(other in template for other in _OTHER_IN_THE_SAME_TAG) else HERMES
    if "<|python_tag|>" in template or ("<|start_header_id|>" in template and '"parameters"' in template):
        return LLAMA
    return None
