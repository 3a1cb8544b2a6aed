"""What a template wrote, told apart from what people wrote, in one rendered prompt.

A template writes `<|im_end|>` and means the token. A user who writes the same must
not end his own turn with it. Both come out of Jinja as one text, so before rendering
each special token's text in a message is broken by a marker, a character that occurs
nowhere else; after rendering the markers show which texts were only text.

    message     say <|im_end|>
    broken      say <*|im_end|>                          * is the marker
    rendered    <|im_start|>user\nsay <*|im_end|><|im_end|>
    parts       "<|im_start|>user\nsay " | "<|im_end|>" plain | "<|im_end|>"

Texts without any go through untouched: templates may look at their content. People
write more than messages: names and arguments of tools, descriptions, schemas with keys
of their own. All of it is JSON that is walked through, keys and values alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain, groupby, pairwise
from os.path import commonprefix
from typing import Any

from node.chat.errors import BadMessages
from node.engine.wire import PromptPart

_MARKERS = tuple(chr(code) for code in chain(range(0xFDD0, 0xFDF0), range(0xE000, 0xF900)))
"""Unicode's noncharacters, which no text may contain, then private use, in case one does."""

_PREFIX_LENGTH_MAX = 64
"""Characters of a special token that are looked for. Breaking its beginning breaks all of it,
and this bounds how deep the search pattern nests, whatever a model's file says."""


class SpecialTokens:
    """The special tokens of one model, as texts to be found in what people write."""

    def __init__(self, texts: Sequence[str]) -> None:
        words = sorted({text[:_PREFIX_LENGTH_MAX] for text in texts if text})
        self._pattern = re.compile(_longest_of(words)) if words else None

    def protect(self, written: Sequence[Mapping[str, Any]], template: str) -> tuple[list[Any], str]:
        """What people wrote with special tokens broken, and the marker that did it (empty: none was there).

        Each of `written` is a message or a tool. Its `role` stays as it is: that is our own word, and
        templates compare it.

        Raises:
          BadMessages: they use up every character that could be the marker.
        """
        texts = list(chain.from_iterable(_texts_of(_without_role(item)) for item in written))
        if not any(next(self._starts(text), None) is not None for text in texts):
            return list(written), ""
        everything = "".join([template, *texts])
        marker = next((marker for marker in _MARKERS if marker not in everything), None)
        if marker is None:
            raise BadMessages("messages hold every private character there is", param="messages")
        broken = []
        for item in written:
            role = {"role": item["role"]} if "role" in item else {}
            broken.append({**role, **self._broken_object(_without_role(item), marker)})
        return broken, marker

    def split(self, rendered: str, marker: str) -> tuple[PromptPart, ...]:
        """The parts of a rendered prompt, without markers: nothing is added, lost or moved."""
        if not marker:
            return (PromptPart(rendered, parse_special=True),)
        pieces = rendered.split(marker)
        text = "".join(pieces)
        parts = []
        done = 0
        for start, end in self._plain_spans(text, accumulate(map(len, pieces[:-1]))):
            parts.append(PromptPart(text[done:start], parse_special=True))
            parts.append(PromptPart(text[start:end], parse_special=False))
            done = end
        parts.append(PromptPart(text[done:], parse_special=True))
        return tuple(part for part in parts if part.text)

    def _starts(self, text: str) -> Iterator[int]:
        """Where special tokens begin in `text`; they may overlap."""
        position = 0
        while self._pattern is not None and (match := self._pattern.search(text, position)):
            yield match.start()
            position = match.start() + 1

    def _broken_object(self, value: Mapping[str, Any], marker: str) -> dict[str, Any]:
        return {self._broken(key, marker): self._broken_value(item, marker) for key, item in value.items()}

    def _broken_value(self, value: object, marker: str) -> object:
        """`value`, as JSON is, with every text in it broken."""
        match value:
            case str():
                return self._broken(value, marker)
            case Mapping():
                return self._broken_object(value, marker)
            case list() | tuple():
                return [self._broken_value(item, marker) for item in value]
        return value

    def _broken(self, text: str, marker: str) -> str:
        """`text` with a marker behind the first character of each special token."""
        cuts = [0, *(start + 1 for start in self._starts(text)), len(text)]
        return marker.join(text[start:end] for start, end in pairwise(cuts))

    def _plain_spans(self, text: str, marked: Iterator[int]) -> Iterator[tuple[int, int]]:
        """The spans of `text` that are no special tokens, in order; `marked` is where markers were."""
        span: tuple[int, int] | None = None
        for position in marked:
            # A template may have cut or changed the text after the marker: then nothing is left to guard.
            match = self._pattern.match(text, position - 1) if self._pattern and position else None
            if match is None:
                continue
            if span is not None and match.start() < span[1]:
                span = (span[0], max(span[1], match.end()))
                continue
            if span is not None:
                yield span
            span = match.span()
        if span is not None:
            yield span


def _without_role(item: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key != "role"}


def _texts_of(value: object) -> Iterator[str]:
    """Every text in `value`, as JSON is; how deep it nests was bounded where it came in."""
    match value:
        case str():
            yield value
        case Mapping():
            for key, item in value.items():
                yield key
                yield from _texts_of(item)
        case list() | tuple():
            for item in value:
                yield from _texts_of(item)


def _longest_of(words: Sequence[str]) -> str:
    """A pattern for the longest of `words` (sorted) that fits.

    Words that begin alike share their beginning, so that text full of `<` costs a step
    for each character and not one for each of a model's thousand tokens.
    """
    branches = []
    for _, group in groupby((word for word in words if word), key=lambda word: word[0]):
        alike = list(group)
        prefix = commonprefix(alike)  # noqa: RUF071  (the characters in common, not the folders)
        rests = [word[len(prefix) :] for word in alike]
        tail = f"(?:{_longest_of(rests)})" if any(rests) else ""
        branches.append(re.escape(prefix) + tail + ("?" if tail and "" in rests else ""))
    return "|".join(branches)
