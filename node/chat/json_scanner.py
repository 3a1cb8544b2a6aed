"""Where a JSON object ends, found while its text is still being generated.

    scanner = JsonObjectScanner()
    scanner.feed('{"a": [1, ')      # 10: all of it belongs to the object
    scanner.feed('2]} and then')    # 3; scanner.state is "whole"

Strict as RFC 8259 is: the first character that cannot go on the object is "broken",
and whatever was taken before it is the beginning of some valid object. Nothing is
held back, so how the text is cut changes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from node.chat.json_values import JSON_DEPTH_MAX

ScanState: TypeAlias = Literal["open", "whole", "broken"]

_BLANKS = " \t\r\n"
_PLAIN = re.compile(r'[^"\\\x00-\x1f]+')
"""Characters of a string that stand for themselves."""
_WORDS = {"t": "true", "f": "false", "n": "null"}
_HEX = frozenset("0123456789abcdefABCDEF")
_DIGITS = "0123456789"

_NUMBER = {
    "-": {"0": "zero", **dict.fromkeys("123456789", "int")},
    "zero": {".": ".", "e": "e", "E": "e"},
    "int": {**dict.fromkeys(_DIGITS, "int"), ".": ".", "e": "e", "E": "e"},
    ".": dict.fromkeys(_DIGITS, "fraction"),
    "fraction": {**dict.fromkeys(_DIGITS, "fraction"), "e": "e", "E": "e"},
    "e": {**dict.fromkeys("+-", "sign"), **dict.fromkeys(_DIGITS, "power")},
    "sign": dict.fromkeys(_DIGITS, "power"),
    "power": dict.fromkeys(_DIGITS, "power"),
}
"""RFC 8259, section 6: from what was read of a number, and a character, to what was read then."""
_NUMBER_WHOLE = frozenset({"zero", "int", "fraction", "power"})


@dataclass(slots=True)
class JsonObjectScanner:
    """Reads one object, which begins with the first character fed."""

    state: ScanState = "open"
    _expected: str = "object"
    """What may come next: a name below, `word`, or a state of a number."""
    _closers: list[str] = field(default_factory=list)
    """The brackets that are open, by what closes them."""
    _is_key: bool = False
    _rest: str = ""
    """Of a word (`true`), or hexadecimal digits still missing as so many `x`."""

    def feed(self, text: str) -> int:
        """How many characters of `text` belong to the object. Not to be called once it is whole or broken."""
        assert self.state == "open"
        position = 0
        while position < len(text) and self.state == "open":
            if self._expected == "string" and (plain := _PLAIN.match(text, position)):
                position = plain.end()
                continue
            if not self._take(text[position]):
                self.state = "broken"
                break
            position += 1
        return position

    def _take(self, char: str) -> bool:
        """Whether `char` goes on the object, and if so, what is expected after it."""
        if self._expected in _NUMBER:
            following = _NUMBER[self._expected].get(char)
            if following is not None:
                self._expected = following
                return True
            if self._expected not in _NUMBER_WHOLE:
                return False
            self._expected = "after value"
        match self._expected:
            case "string":
                return self._take_in_string(char)
            case "escape":
                return self._take_escape(char)
            case "hex":
                return char in _HEX and self._take_rest("string")
            case "word":
                return char == self._rest[0] and self._take_rest("after value")
        return (char in _BLANKS and self._expected != "object") or self._take_structure(char)

    def _take_structure(self, char: str) -> bool:
        match self._expected, char:
            case "object", "{":
                return self._open("}", "first key")
            case (("first key" | "key"), '"'):
                return self._begin_string(is_key=True)
            case "colon", ":":
                return self._expect("value")
            case (("value" | "first item"), _) if self._take_value(char):
                return True
            case (("first key" | "first item" | "after value"), _) if char == self._closers[-1]:
                self._closers.pop()
                if not self._closers:
                    self.state = "whole"
                return self._expect("after value")
            case "after value", ",":
                return self._expect("key" if self._closers[-1] == "}" else "value")
        return False

    def _take_value(self, char: str) -> bool:
        match char:
            case "{":
                return self._open("}", "first key")
            case "[":
                return self._open("]", "first item")
            case '"':
                return self._begin_string(is_key=False)
            case "t" | "f" | "n":
                self._rest = _WORDS[char][1:]
                return self._expect("word")
            case "-":
                return self._expect("-")
        return char in _DIGITS and self._expect(_NUMBER["-"][char])

    def _take_in_string(self, char: str) -> bool:
        if char == '"':
            return self._expect("colon" if self._is_key else "after value")
        return char == "\\" and self._expect("escape")

    def _take_escape(self, char: str) -> bool:
        if char == "u":
            self._rest = "xxxx"
            return self._expect("hex")
        return char in '"\\/bfnrt' and self._expect("string")

    def _take_rest(self, then: str) -> bool:
        self._rest = self._rest[1:]
        return bool(self._rest) or self._expect(then)

    def _begin_string(self, *, is_key: bool) -> bool:
        self._is_key = is_key
        return self._expect("string")

    def _open(self, closer: str, expected: str) -> bool:
        # Deeper than this its text could not come back to us as part of a message.
        if len(self._closers) == JSON_DEPTH_MAX:
            return False
        self._closers.append(closer)
        return self._expect(expected)

    def _expect(self, what: str) -> bool:
        self._expected = what
        return True
