"""JSON from a client, checked for what msgpack, Jinja and Python's own `json` can carry.

All three recurse, msgpack has no integers beyond 64 bits, and none has half a
surrogate pair. What is refused here would end a process or a connection there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

JSON_DEPTH_MAX = 64
"""Objects and arrays within each other. Schemas people write have about ten; a template's `tojson` stops at
some hundreds."""

_INTEGER_MAX = 2**63 - 1


class Uncarriable(ValueError):
    """This value cannot go where it is meant to. The text says what it holds, without a subject."""


def require_carriable(value: object, depth: int = JSON_DEPTH_MAX) -> None:
    """Nothing, if `value` is JSON that templates and pipes can carry.

    Raises:
      Uncarriable: it is not.
    """
    match value:
        case None | bool():
            pass
        case str():
            require_text(value)
        case int() | float():
            _require_number(value)
        case Mapping() | list() | tuple() if depth == 0:
            raise Uncarriable(f"is nested more than {JSON_DEPTH_MAX} deep")
        case Mapping():
            for key, item in value.items():
                require_text(key)
                require_carriable(item, depth - 1)
        case list() | tuple():
            for item in value:
                require_carriable(item, depth - 1)
        case _:
            raise Uncarriable("holds what is no JSON")


def require_text(value: object) -> None:
    """Nothing, if `value` is text that any tokeniser can take.

    Raises:
      Uncarriable: it is not.
    """
    if not isinstance(value, str):
        raise Uncarriable("holds something else where text must be")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        # JSON can carry half of a surrogate pair (`"\ud83d"`); no tokeniser can.
        raise Uncarriable("holds a surrogate without its other half") from error


def _require_number(value: float) -> None:
    if isinstance(value, int) and abs(value) > _INTEGER_MAX:
        raise Uncarriable("holds an integer of more than 64 bits")
    if not math.isfinite(value):
        raise Uncarriable("holds a number that is not finite")
