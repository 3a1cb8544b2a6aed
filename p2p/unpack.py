"""Msgpack that somebody else wrote, unpacked in memory bounded by its length.

msgpack makes room for a list when it reads how long the list says it is, and lists nest:
16 KB of headers that each announce thousands of items make it take 40 MB before it finds
that none of them follow. So the bytes are walked through first, which builds nothing, and
are unpacked only when everything they announce is there. A message of a few bytes can
announce little, and is not walked through.

What then comes out takes at most `GROWTH_MAX` times their length. How many bytes there may
be is for the caller to bound, and what they mean is for the caller to check.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

from p2p.errors import NotMsgpack

GROWTH_MAX = 96
"""Bytes of memory for one of msgpack. A map in a list costs most: one byte that becomes 72 or, with one
field, three that become 250."""

_WALKED_MIN = 128
"""Bytes. Whatever fewer announce takes 24 KB, and to walk through them takes as long as to unpack them."""


def unpack_untrusted(
    data: bytes | memoryview,
    *,
    ext_hook: Callable[[int, bytes], Any] = msgpack.ExtType,
    strict_map_key: bool = True,
) -> Any:  # noqa: ANN401 (whatever its sender put there)
    """The one value in `data`. `strict_map_key`: maps have keys of text or bytes only.

    Raises:
      NotMsgpack: it is none, or not all of one, or something follows it.
    """
    try:
        if len(data) >= _WALKED_MIN:
            _walk_through(data)
        return msgpack.unpackb(data, ext_hook=ext_hook, strict_map_key=strict_map_key)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        # TypeError: a key that cannot be one, where keys are not strict.
        raise NotMsgpack("bytes that are not one msgpack value") from error


def _walk_through(data: bytes | memoryview) -> None:
    # Its copy of the data is gone before the second one is made: together they would often be more than the
    # allocator keeps, and getting that anew from the system takes ten times as long as all else.
    walk = msgpack.Unpacker(max_buffer_size=len(data))
    walk.feed(data)
    walk.skip()
