"""Text stream: the bytes of tokens in, text that may be shown out.

A token is a piece of bytes, and its border may fall inside a character or inside
a stop string. Bytes wait until their character is whole; text waits while it may
be the beginning of a stop string.

    tokens   "Hel" "lo\\n" "\\nUs" "er:"          stop string "\\nUser:"
    shown    "Hel" "lo"   "\\n"   ""   <- stopped; "\\nUser:" is never shown

What is shown follows from the bytes and the stop strings alone, however the bytes
were cut, so a generation that moves to another machine says the same there.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field


def _new_decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")("replace")


@dataclass(slots=True)
class TextStream:
    """The text of one answer while it grows."""

    stop: tuple[str, ...] = ()
    """None of them empty. The one that is complete first ends the text; of two, the longer."""
    stopped: bool = False
    _held: str = ""
    _decoder: codecs.IncrementalDecoder = field(default_factory=_new_decoder)

    def feed(self, piece: bytes) -> str:
        """The text that may be shown now that `piece` is there. Not to be called once `stopped`."""
        assert not self.stopped
        text = self._held + self._decoder.decode(piece)
        if not self.stop:
            return text
        begin = self._begin_of_stop(text)
        if begin is not None:
            self.stopped = True
            self._held = ""
            return text[:begin]
        shown = len(text) - self._length_to_hold(text)
        self._held = text[shown:]
        return text[:shown]

    def finish(self) -> str:
        """What was held back for a stop string that never came.

        A character that never became whole is not text, and is left out.
        """
        held, self._held = self._held, ""
        return held

    def _begin_of_stop(self, text: str) -> int | None:
        found = [(begin + len(stop), begin) for stop in self.stop if (begin := text.find(stop)) >= 0]
        return min(found)[1] if found else None

    def _length_to_hold(self, text: str) -> int:
        """Of the longest end of `text` that a stop string begins with."""
        return max(_length_of_overlap(text, stop) for stop in self.stop)


def _length_of_overlap(text: str, stop: str) -> int:
    """Of the longest end of `text` that `stop` begins with, and goes on after."""
    begin = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while begin >= 0:
        if stop.startswith(text[begin:]):
            return len(text) - begin
        begin = text.find(stop[0], begin + 1)
    return 0
