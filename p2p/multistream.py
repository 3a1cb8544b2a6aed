"""multistream-select 1.0.0: agreeing on a stream's protocol.

    opener                                        answerer
      | -- /multistream/1.0.0, /the/protocol ------> |
      | <------- /multistream/1.0.0, /the/protocol -- |   or `na`: not spoken here

Each message is a varint length, the text, and a newline. The opener sends both of
its messages at once, so agreeing costs one round trip. Nothing past the agreement is
read, because the protocol's own bytes may follow at once.
Source: github.com/multiformats/multistream-select
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

import trio

from p2p.errors import BadFrame, ProtocolNotSpoken

_HEADER: Final = "/multistream/1.0.0"
_NOT_SPOKEN: Final = "na"
_TEXT_SIZE_MAX: Final = 127
"""Ours are below 40 bytes. Up to here the varint is one byte, and stays so for all we know of."""
_PROPOSALS_MAX: Final = 8
"""Versions of one protocol an opener may try on one stream."""


async def propose(stream: trio.abc.Stream, protocol_id: str) -> None:
    """Agree on `protocol_id` as the one who opened `stream`.

    Raises:
      ProtocolNotSpoken: the peer does not have it.
      BadFrame: the peer does not speak multistream-select.
      trio.BrokenResourceError: the stream broke.
    """
    await stream.send_all(_encode(_HEADER) + _encode(protocol_id))
    await _receive_header(stream)
    answer = await _receive(stream)
    if answer == _NOT_SPOKEN:
        raise ProtocolNotSpoken(f"the peer does not speak {protocol_id}")
    if answer != protocol_id:
        raise BadFrame(f"{protocol_id} was proposed, and something else confirmed")


async def answer(stream: trio.abc.Stream, spoken: Container[str]) -> str:
    """The protocol of `spoken` that the opener of `stream` asked for.

    Raises:
      BadFrame: the peer does not speak multistream-select, or found nothing it knows here.
      trio.BrokenResourceError: the stream broke.
    """
    await stream.send_all(_encode(_HEADER))
    await _receive_header(stream)
    for _ in range(_PROPOSALS_MAX):
        protocol_id = await _receive(stream)
        if protocol_id in spoken:
            await stream.send_all(_encode(protocol_id))
            return protocol_id
        await stream.send_all(_encode(_NOT_SPOKEN))
    raise BadFrame("too many protocols were proposed")


def _encode(text: str) -> bytes:
    line = text.encode() + b"\n"
    assert len(line) <= _TEXT_SIZE_MAX
    return bytes([len(line)]) + line


async def _receive_header(stream: trio.abc.Stream) -> None:
    # The length alone gives a stranger away: under another key it is noise, and to wait for
    # as many bytes as it announces would be to wait for long.
    header = _encode(_HEADER)
    for expected in (header[:1], header[1:]):
        if await _receive_exactly(stream, len(expected)) != expected:
            raise BadFrame("the peer does not speak multistream-select")


async def _receive(stream: trio.abc.Stream) -> str:
    size = (await _receive_exactly(stream, 1))[0]
    if not 0 < size <= _TEXT_SIZE_MAX:
        raise BadFrame("a protocol name that is empty or too long")
    line = await _receive_exactly(stream, size)
    if not line.endswith(b"\n"):
        raise BadFrame("a protocol name without its newline")
    # Ids are ASCII; what is not will match nothing.
    return line[:-1].decode("ascii", "replace")


async def _receive_exactly(stream: trio.abc.Stream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = await stream.receive_some(size - len(data))
        if not piece:
            raise BadFrame("the stream ended while its protocol was being agreed on")
        data += piece
    return bytes(data)
