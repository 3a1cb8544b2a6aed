"""The way from a command into trio and back: one error comes out as itself.

Nurseries wrap what their tasks raise in groups. A person wants the one reason.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import trio


def run_trio(main: Callable[[], Awaitable[None]]) -> None:
    """Run `main` to its end.

    Raises:
      BaseException: what ended it; of a group with a single reason, that reason.
    """
    try:
        trio.run(main)
    except BaseExceptionGroup as group:
        reasons = list(_leaves(group))
        if len({(type(reason), str(reason)) for reason in reasons}) == 1:
            raise reasons[0] from None
        raise


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
