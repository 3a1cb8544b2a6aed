"""An engine child without a model: says a word at a time, as fast as each request wants.

A request's `seed` is the words a second that it gets; without one, or with 0, they come as fast as they are
read. The first comes at once: reading a prompt takes no time here. In all else it is an engine: it keeps to
credit, hears of cancellations between two words, and counts what it says.
"""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass

from node.engine.wire import (
    FRAME_SIZE_MAX,
    UNREAD_TOKENS_MAX,
    Accepted,
    Cancel,
    Credit,
    Finished,
    FromChild,
    Generate,
    Load,
    Loaded,
    ModelFacts,
    Piece,
    Ping,
    Pong,
    Ready,
    ToChild,
)
from node.engine.wire_codec import to_child, to_map
from p2p.framing import FrameDecoder, encode_frame

_READ_SIZE = 64 * 1024
_WORDS = (" the", " quick", " brown", " fox", " jumps", ",", " over", " a", " lazy", " dog's", " back", ".")
_TOKENS_DEFAULT = 16
_PROMPT_TOKENS = 12
"""Whatever the prompt is."""
_FACTS = ModelFacts(
    context_size=4096,
    vocab_size=49_152,
    chat_template=None,
    bos="",
    eos="",
    special_tokens=(),
    special_ids=(),
)


@dataclass(slots=True)
class _Answer:
    """One that is being given."""

    id: int
    tokens: int
    interval: float
    """Seconds between two words."""
    due_at: float
    said: int = 0
    credit: int = UNREAD_TOKENS_MAX


class StubEngine:
    """What stands in for a model."""

    def __init__(self) -> None:
        self._answers: dict[int, _Answer] = {}

    @property
    def wake_at(self) -> float:
        """When the next word is due; infinite where nobody waits for one."""
        return min((each.due_at for each in self._answers.values() if each.credit > 0), default=math.inf)

    def handle(self, message: ToChild, now: float) -> Iterator[FromChild]:
        """Returns what to say to that."""
        match message:
            case Load():
                yield Loaded(_FACTS, 0)
                yield Ready(step_seconds=0.1)
            case Generate(request_id, request):
                rate = request.sampling.seed
                interval = 1 / rate if rate else 0.0
                self._answers[request_id] = _Answer(
                    request_id, request.max_tokens or _TOKENS_DEFAULT, interval, due_at=now
                )
                yield Accepted(request_id, bytes(32), _PROMPT_TOKENS, ())
            case Credit(request_id, tokens=tokens) if request_id in self._answers:
                self._answers[request_id].credit += tokens
            case Cancel(request_id):
                self._answers.pop(request_id, None)
            case Ping():
                yield Pong()

    def say(self, now: float) -> Iterator[FromChild]:
        """Every word that is due."""
        for each in list(self._answers.values()):
            if each.credit > 0 and each.due_at <= now:
                # Who could not say it in time does not catch up: an engine's steps do not either.
                each.due_at = max(each.due_at + each.interval, now)
                yield from self._word(each)

    def _word(self, answer: _Answer) -> Iterator[FromChild]:
        answer.said += 1
        answer.credit -= 1
        has_ended = answer.said == answer.tokens
        text = _WORDS[answer.said % len(_WORDS)]
        yield Piece(answer.id, 0, (answer.said,), text, finish_reason="length" if has_ended else None)
        if has_ended:
            del self._answers[answer.id]
            yield Finished(answer.id, ("length",), _PROMPT_TOKENS, answer.tokens, 0, 0.0, 0.0, 0.0)


def main() -> None:
    """Serve until stdin ends."""
    engine, decoder = StubEngine(), FrameDecoder(FRAME_SIZE_MAX)
    while True:
        until = engine.wake_at
        wait = None if until == math.inf else max(0.0, until - time.monotonic())
        answers: list[FromChild] = []
        if select.select([0], [], [], wait)[0]:
            data = os.read(0, _READ_SIZE)
            if not data:
                return
            for message in decoder.feed_untrusted(data):
                answers += engine.handle(to_child(message), time.monotonic())
        _write(b"".join(encode_frame(to_map(each), FRAME_SIZE_MAX) for each in answers))
        _write(b"".join(encode_frame(to_map(each), FRAME_SIZE_MAX) for each in engine.say(time.monotonic())))


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    main()
