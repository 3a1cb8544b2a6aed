"""Errors of node/engine/, split by what the caller can do.

EngineError
+- EngineUnavailable   it does not run now: starting, restarting or failed; the text says why
+- EngineBusy          not enough slots are free: another peer, or later
+- EngineFailed        it died, or was stopped, while at work on this request: resume elsewhere
+- PromptRefused       this model can never serve that request; the text says why
|  +- PromptTooLong       prompt and answer do not fit the context
|  +- OtherPrompt         what is to be resumed was made of another prompt: try another peer
+- ModelNotLoadable    (inside the child only) the file cannot become a running model
"""

from __future__ import annotations


class EngineError(Exception):
    """Root of what node/engine/ raises."""


class EngineUnavailable(EngineError):
    """The engine does not run now."""


class EngineBusy(EngineError):
    """Not enough slots are free."""


class EngineFailed(EngineError):
    """The engine ended while it worked on the request."""


class PromptRefused(EngineError):
    """The request cannot be served by this model, now or later."""

    def __init__(self, message: str, *, param: str = "") -> None:
        """`param`: of the request, if one is to blame."""
        super().__init__(message)
        self.param = param


class PromptTooLong(PromptRefused):
    """Prompt and answer do not fit the context."""


class OtherPrompt(PromptRefused):
    """The prompt to be resumed reads as other tokens here."""


class ModelNotLoadable(EngineError):
    """The model's file cannot be loaded or does not compute; the text says why."""
