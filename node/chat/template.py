"""What a template wrote, told apart from what people wrote, in one rendered prompt.

A template writes `<|im_end|>` and means the token. A user who writes the same must
not end his own turn with it. Both come out of Jinja as one text, so before rendering
each special token's text in a message is broken by a marker, a character that occurs
nowhere else; after rendering the markers show which texts were only text.

    message     say <|im_end|>
    broken      say <*|im_end|>                          * is the marker
    rendered    <|im_start|>user\nsay <*|im_end|><|im_end|>
    parts       "<|im_start|>user\nsay " | "<|im_end|>" plain | "<|im_end|>"

Messages without such text go through untouched: templates may look at their content.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, groupby, pairwise
from os.path import commonprefix

from node.chat.errors import BadMessages
from node.chat.messages import ChatMessage
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

    def protect(self, messages: Sequence[ChatMessage], template: str) -> tuple[list[ChatMessage], str]:
        """`messages` with their special tokens broken, and the marker that did it (empty: none was there).

        Raises:
          BadMessages: they use up every character that could be the marker.
        """
        # Not the roles: those are our own words, and templates compare them.
        texts = [text for message in messages for key, text in message.items() if key != "role"]
        if not any(next(self._starts(text), None) is not None for text in texts):
            return list(messages), ""
        written = "".join([template, *texts])
        marker = next((marker for marker in _MARKERS if marker not in written), None)
        if marker is None:
            raise BadMessages("messages hold every private character there is", param="messages")
        broken = [
            {key: text if key == "role" else self._broken(text, marker) for key, text in message.items()}
            for message in messages
        ]
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
