"""Errors of api/, split by who meets them.

ApiError
+- HttpError          the client: an answer that is not 2xx, in OpenAI's error object
+- UnsafeBinding      the person who starts the node: a public address without a key
+- ListenFailed       the same person: the address cannot be listened on; the text says why
   +- AddressInUse       another program listens there

`error_table.py` turns every other exception into an `HttpError`.
"""

from __future__ import annotations


class ApiError(Exception):
    """Root of what api/ raises."""


class HttpError(ApiError):
    """What an HTTP client is told instead of an answer."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",  # noqa: A002 (OpenAI's own name of the field)
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code
        self.retry_after = retry_after
        """Seconds until another try makes sense; None: trying again will not help."""

    def body(self) -> dict[str, dict[str, str | None]]:
        """OpenAI's error object."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class UnsafeBinding(ApiError):
    """Anybody who can reach this address could use the swarm."""


class ListenFailed(ApiError):
    """The HTTP address cannot be listened on."""


class AddressInUse(ListenFailed):
    """Another program listens on the HTTP address already."""
