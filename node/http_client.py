"""The body of an HTTP answer, piece by piece, and left whenever one wants."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import trio


@asynccontextmanager
async def pieces_of(response: httpx.Response) -> AsyncIterator[AsyncIterator[bytes]]:
    """The body of `response` as it comes; it may be left before its end."""
    pieces = response.aiter_raw()
    try:
        yield pieces
    finally:
        # httpx reads through generators within generators, which closing the outermost leaves to the garbage
        # collector. Only an exception from within ends them all, and being cancelled is one.
        with trio.CancelScope() as scope, suppress(httpx.HTTPError):
            scope.cancel()
            async for _ in pieces:
                pass
