"""A decoder as the campaign sees it: what it takes, what it may raise, how what it read is said again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from p2p.framing import FrameDecoder

T = TypeVar("T")


@dataclass(frozen=True)
class Decoder:
    """One row of the table."""

    name: str
    seeds: list[bytes]
    """Inputs that `decode` takes."""
    decode: Callable[[bytes], Any]
    error: type[Exception]
    """The only one it may raise; with its leaves."""
    again: Callable[[Any], bytes | None] = field(default=lambda _: None)
    """What was decoded as an input once more; None: this is never said again."""
    are_msgpack: bool = True


def framed(decode: Callable[[dict[str, Any]], T], size_max: int) -> Callable[[bytes], T]:
    """`decode` behind the decoder of frames, for the body of one."""

    def decode_body(body: bytes) -> T:
        (message,) = FrameDecoder(size_max).feed_untrusted(len(body).to_bytes(4, "big") + body)
        return decode(message)

    return decode_body
