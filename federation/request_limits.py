"""How large a request may be: part of the port, like `backend.py`.

Whoever lets a request in checks it with words for its client; whoever gets one from a peer
checks it again. Both use these numbers, so whatever is let in can travel.
"""

from __future__ import annotations

import math
from collections.abc import Collection

TIMEOUT_MAX = 86_400.0
"""Seconds. Nobody waits longer than a day, and a front that froze must not hold a slot for ever."""

CHOICES_MAX = 128
"""Answers to one request: OpenAI's limit on `n`."""

TOP_LOGPROBS_MAX = 20
"""Likeliest tokens at each place: OpenAI's limit."""

LOGIT_BIAS_MAX = 4096
"""Tokens with a bias. Each is looked up for every token that is generated; OpenAI takes 300."""

INPUTS_MAX = 2048
"""Texts to embed, or documents to rank: OpenAI's limit, and Jina's."""

TOOLS_MAX = 128
"""Functions a model may call: OpenAI's limit. Their descriptions are part of every prompt."""

TOOL_CALLS_MAX = 128
"""Calls in one message or one choice: nobody answers more of them at once than there are tools."""

TOOL_NAME_LENGTH_MAX = 64
"""Characters: OpenAI's limit."""

CONSTRAINT_LENGTH_MAX = 2**18
"""Characters of a schema or grammar. It is compiled before the first token, in time that grows with
it; OpenAI takes 120,000 characters of names and values."""

NESTED_DEPTH_MAX = 64
"""Levels of lists and maps within tools, schemas and messages: a schema takes two or three for each level
of what it describes, of which OpenAI allows ten. Whoever walks them by recursion has room for hundreds."""

NESTED_VALUES_MAX = 2**16
"""Values in the tools of a request, or in a schema, keys too: OpenAI allows 5000 properties, of some each."""

MESSAGE_VALUES_MAX = 2**19
"""Values in all messages of a chat, keys too: sixteen thousand of them with a call each."""

_WHOLE_MIN, _WHOLE_MAX = -(2**63), 2**64 - 1
"""What msgpack can carry."""


def require_portable(value: object, values_max: int) -> None:
    """Nothing, if `value` is JSON that every peer can carry and a template can read.

    Takes time for `values_max` values at most, however many there are.

    Raises:
      ValueError: it is not; says why, for a person.
    """
    level, count = [value], 1
    for _ in range(NESTED_DEPTH_MAX):
        inner: list[object] = []
        for each in level:
            found = _inner(each)
            count += len(found)
            if count > values_max:
                raise ValueError(f"it has more than {values_max} values")
            inner.extend(found)
        if not inner:
            return
        level = inner
    raise ValueError(f"it is nested more than {NESTED_DEPTH_MAX} levels deep")


def _inner(value: object) -> Collection[object]:
    """What is in a list or a map, keys included; of anything else, whether it may be there at all."""
    # By type and not by pattern, because there may be half a million.
    if isinstance(value, str):
        require_text(value)
    elif isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("it has a key that is not text")
        return [*value, *value.values()]
    elif isinstance(value, list | tuple):
        return value
    elif not _is_plain(value):
        raise ValueError("it has a value that JSON cannot say, or a number over 64 bits")
    return ()


def _is_plain(value: object) -> bool:
    if isinstance(value, int):
        return _WHOLE_MIN <= value <= _WHOLE_MAX
    return value is None or (isinstance(value, float) and math.isfinite(value))


def require_text(text: str) -> None:
    """Nothing, if `text` is text: JSON can spell half a surrogate pair, and no peer or model could read it.

    Raises:
      ValueError: it has half a pair.
    """
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a surrogate without its other half is not text") from None
