"""Server-sent events out of bytes, in pieces of any size (WHATWG HTML, 9.2.6).

A line `error: {...}`, which old llama.cpp servers write instead of an event, is read as one
whose data is `{"error": {...}}`, as all others spell it.
"""

from __future__ import annotations

from node.attached.errors import BadAnswer

EVENT_SIZE_MAX = 4 * 1024 * 1024
"""Bytes of one event. A piece of text has some hundred; Ollama sends a whole call in one, whose arguments
may be a file. As much as a frame to a peer may have."""


class SseDecoder:
    """Cuts one stream into the data of its events."""

    def __init__(self) -> None:
        self._line = bytearray()
        """That has not ended yet."""
        self._data: list[str] = []
        """Of the event that has not ended yet."""
        self._size = 0
        """Bytes of that event so far."""
        self._follows_return = False
        """A `\\n` that comes now belongs to the `\\r` before it."""

    def feed(self, data: bytes) -> list[str]:
        """The data of the events that end in `data`.

        Raises:
          BadAnswer: one has no end.
        """
        if not data:
            return []
        if self._follows_return:
            data = data.removeprefix(b"\n")
        self._follows_return = data.endswith(b"\r")
        *lines, rest = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        events: list[str] = []
        for line in lines:
            self._take(line)
            events += self._end_of_line()
        self._take(rest)
        return events

    def finish(self) -> list[str]:
        """The data of an event whose end was left out, now that the stream has ended."""
        return [*self._end_of_line(), *self._end_of_event()]

    def _take(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > EVENT_SIZE_MAX:
            raise BadAnswer(f"one event of its stream has more than {EVENT_SIZE_MAX} bytes")
        self._line += piece

    def _end_of_line(self) -> list[str]:
        line = self._line.decode(errors="replace")
        self._line.clear()
        if not line:
            return self._end_of_event()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "error":
            self._data.append(f'{{"error":{value}}}')
        return []

    def _end_of_event(self) -> list[str]:
        data, self._data, self._size = self._data, [], 0
        return ["\n".join(data)] if data else []
