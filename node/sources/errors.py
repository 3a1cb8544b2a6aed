"""Errors of node/sources/, one line each, made to be shown to a person. None holds a secret.

SourceError (a NodeError)
+- BadReference           text that names no source; says what to write instead (WrongUse)
+- BadGallery             a gallery's index or one of its files cannot be understood; says which and why
+- NotInGallery           no gallery has a model of that name
+- UnsuitableModel        it is there, and is no model that this program runs
+- SourceRefused          what the source answers is of no use, now or later: try another one
|  +- TokenNeeded             it wants to know who asks
|  +- NotAtSource             it has no such thing (any more)
|  +- RangeRefused            it has not as many bytes as it had
+- SourceUnavailable      no answer, too slow, or it broke off: try again later
   +- SourceBusy              it said so itself, perhaps with a time
"""

from __future__ import annotations

from node.errors import NodeError, WrongUse


class SourceError(NodeError):
    """Root of what node/sources/ raises."""


class BadReference(SourceError, WrongUse, ValueError):
    """Text that names no source."""


class BadGallery(SourceError, ValueError):
    """A gallery that cannot be understood."""


class NotInGallery(SourceError):
    """No gallery has a model of that name."""


class UnsuitableModel(SourceError):
    """What is there is no model that this program runs."""


class SourceRefused(SourceError):
    """The source cannot give what is wanted. Asking it again changes nothing."""


class TokenNeeded(SourceRefused):
    """The source wants to know who asks, or does not want to give it to who does."""


class NotAtSource(SourceRefused):
    """The source has no such thing."""


class RangeRefused(SourceRefused):
    """The file ends before the bytes that were asked for."""


class SourceUnavailable(SourceError):
    """The source did not answer, or stopped. Asking it again may help."""


class SourceBusy(SourceUnavailable):
    """The source asks to be left alone for now."""

    def __init__(self, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after
        """Seconds; None: it did not say."""
