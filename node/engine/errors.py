"""Errors of node/engine/, split by what the caller can do.

EngineError
+- EngineUnavailable   it does not run now: starting, restarting or failed; the text says why
+- EngineBusy          every slot is taken: another peer, or later
+- EngineFailed        it died, or was stopped, while at work on this request: resume elsewhere
+- PromptRefused       this model can never serve that request; the text says why
|  +- PromptTooLong       prompt and answer do not fit the context
+- ModelNotLoadable    (inside the child only) the file cannot become a running model
"""

from __future__ import annotations


class EngineError(Exception):
    """Root of what node/engine/ raises."""


class EngineUnavailable(EngineError):
    """The engine does not run now."""


class EngineBusy(EngineError):
    """Every slot is taken."""


class EngineFailed(EngineError):
    """The engine ended while it worked on the request."""


class PromptRefused(EngineError):
    """The request cannot be served by this model, now or later."""


class PromptTooLong(PromptRefused):
    """Prompt and answer do not fit the context."""


class ModelNotLoadable(EngineError):
    """The model's file cannot be loaded or does not compute; the text says why."""
