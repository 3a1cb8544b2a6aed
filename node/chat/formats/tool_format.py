"""How one family of models writes tool calls: as data, for reading and for writing.

An answer with calls, and what the fields below call its pieces:

    [TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}]
    opening------  head-------------------  args--- tail
                                                    separator                        closing

What is written (by the grammar, and in earlier turns) is exactly what the family was
trained on. What is read may have whitespace anywhere JSON allows it, because a model
whose answer no grammar holds makes what it likes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from node.chat.formats.call_pattern import CallPattern, call_pattern


@dataclass(frozen=True, slots=True)
class WrittenCalls:
    """The fixed text around names and arguments, as the family was trained on it."""

    before_name: str
    before_arguments: str
    after_arguments: str
    opening: str = ""
    separator: str = ""
    closing: str = ""

    def head(self, name: str) -> str:
        """What stands before the arguments of a call of `name`."""
        return f"{self.before_name}{name}{self.before_arguments}"

    def text(self, calls: Iterable[tuple[str, Mapping[str, Any] | str]]) -> str:
        """`calls`, each a name and its arguments, as the model would have written them."""
        written = [
            f"{self.head(name)}{_json_text(arguments)}{self.after_arguments}" for name, arguments in calls
        ]
        return f"{self.opening}{self.separator.join(written)}{self.closing}"


@dataclass(frozen=True, slots=True)
class ReadCalls:
    """The same for a parser."""

    marker: str
    """Text that announces a call wherever it stands. Empty: there is none."""
    at_marker: tuple[CallPattern, ...]
    """What a call may begin with at the marker,"""
    at_start: tuple[CallPattern, ...]
    """and where the answer begins."""
    following: CallPattern | None
    """From the end of one call's arguments to those of the next."""
    end: CallPattern
    """From the end of a call's arguments to the end of its text."""

    @staticmethod
    def of(
        end: str,
        *,
        marker: str = "",
        at_marker: Iterable[str] = (),
        at_start: Iterable[str] = (),
        following: str = "",
    ) -> ReadCalls:
        """From what `call_pattern` takes."""
        return ReadCalls(
            marker,
            tuple(call_pattern(spec, before_object=True) for spec in at_marker),
            tuple(call_pattern(spec, before_object=True) for spec in at_start),
            call_pattern(following, before_object=True) if following else None,
            call_pattern(end),
        )


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """One family of models."""

    name: str
    """As a model's YAML may say it."""
    written: WrittenCalls
    read: ReadCalls
    start_marker: str = ""
    """Where calls are the whole answer: one that begins like this is a call. As `call_pattern` takes it.
    Empty: calls come after `read.marker` wherever that stands."""
    control_texts: tuple[str, ...] = ()
    """Pieces of the above that are control tokens in some vocabularies."""
    call_id_length: int | None = None
    """Templates of this family take ids of exactly so many letters and digits."""


def _json_text(arguments: Mapping[str, Any] | str) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
