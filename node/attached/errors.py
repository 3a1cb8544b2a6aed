"""Errors of node/attached/, which do not leave it: `server.py` words them for the federation.

AttachedError
+- BadAnswer        what the server said is not what it should be
+- ErrorEvent       its stream says that it failed
+- Unusable         it cannot serve now, or never could; the text says what to do
   +- StillLoading      it will, in a while
"""

from __future__ import annotations


class AttachedError(Exception):
    """Root of what node/attached/ raises."""


class BadAnswer(AttachedError):
    """The server's answer cannot be read."""


class ErrorEvent(AttachedError):
    """The server's stream says that it failed; `error` is what it says, in whatever form."""

    def __init__(self, error: object) -> None:
        super().__init__("its stream says that it failed")
        self.error = error


class Unusable(AttachedError):
    """The server serves nothing now."""


class StillLoading(Unusable):
    """The server is there and has not loaded its model yet."""
