"""The beginnings of a prompt, as hashes: what two prompts have in common without keeping either.

    system ......|user ......|assistant .....     one text, tools and messages in their order
    [ window ][ window ][ window ][ wind          a hash at the end of each full window,
        k1        k2        k3                    over all that comes before it

Two prompts that share k2 are alike up to there. What a template adds around messages is the same
for all prompts of a model, so it makes no difference.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from federation.backend import InferenceRequest

_WINDOW_BYTES = 256
"""Some 60 tokens: what a shared beginning may be rounded down by, and less than that is read in no time."""
_WINDOWS_MAX = 256
"""64 KiB of a prompt, some 16,000 tokens. What comes after that is rarely shared without it, and
hashing it would cost every request."""
_KEY_BYTES = 8
"""A wrong guess costs one request a prefill, so they need not be longer."""
_ID_BYTES = 4


@dataclass(frozen=True, slots=True)
class Prefix:
    """The beginnings of one prompt."""

    keys: tuple[bytes, ...] = ()
    """Shortest first."""
    window_share: float = 0.0
    """Of the prompt, that each key adds to the one before; 0 to 1."""
    characters: int = 0
    """Of all texts in the prompt."""
    ids: int = 0
    """Tokens that came as ids."""


def prefix_of(request: InferenceRequest) -> Prefix:
    """The beginnings of the prompt of `request`."""
    digest = hashlib.blake2b(digest_size=_KEY_BYTES)
    keys: list[bytes] = []
    pending = b""
    characters = ids = size_bytes = 0
    for piece in _pieces(request):
        room = max(_WINDOW_BYTES * (_WINDOWS_MAX - len(keys)) - len(pending), 0)
        if isinstance(piece, str):
            characters += len(piece)
            encoded = piece.encode(errors="surrogatepass")
            size_bytes += len(encoded)
        else:
            ids += len(piece)
            size_bytes += _ID_BYTES * len(piece)
            # An id that is out of range is refused later, by who knows the range.
            some = piece[: room // _ID_BYTES]
            encoded = b"".join((each % 2**32).to_bytes(_ID_BYTES, "little") for each in some)
        pending += encoded[:room]
        full = len(pending) - len(pending) % _WINDOW_BYTES
        for start in range(0, full, _WINDOW_BYTES):
            digest.update(pending[start : start + _WINDOW_BYTES])
            keys.append(digest.digest())
        pending = pending[full:]
    share = _WINDOW_BYTES / size_bytes if keys else 0.0
    return Prefix(tuple(keys), share, characters, ids)


def _pieces(request: InferenceRequest) -> Iterator[str | Sequence[int]]:
    """All that a prompt is made of, in the order in which templates write it."""
    if request.tools:
        yield json.dumps(list(request.tools), default=str)
    for message in request.messages:
        yield f"\x00{message.get('role', '')}\x00{message.get('content') or ''}"
        if calls := message.get("tool_calls"):
            yield json.dumps(calls, default=str)
    if request.prompt:
        yield request.prompt
    yield from request.inputs
