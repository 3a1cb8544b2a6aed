"""Errors of federation/, split by whose fault it is and what the caller can do.

FederationError
+- BadRequest         the request itself cannot be served anywhere: do not try again
|  +- ContextTooLong     prompt and answer do not fit the model's context
+- ModelNotFound      nobody alive serves that model
+- ModelUnavailable   somebody has it and it cannot run now (failed to load, still loading): says why
+- Busy               every slot that could serve it is taken, and too many wait for one: try again later
+- TimedOut           it waited for a slot as long as it may: try again later
+- Refused            one peer said no before it accepted: try another one
+- Failed             one peer accepted and then could not go on: resume elsewhere
|  +- PeerGone           its connection broke: evidence that the peer itself is dead
|  |  +- Stalled            the connection stands, and nothing comes
|  +- Misbehaved         it broke the protocol
+- DeadlineExceeded   the request's own time is over

`Refused` and `Failed` are about one peer and never reach a client: the front
turns what is left when no peer remains into one of the others.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from ledger.records import Load

RefusalReason: TypeAlias = Literal[
    "busy",
    "no_such_model",
    "model_failed",
    "loading",
    "draining",
    "resume_mismatch",
    "bad_request",
    "context_too_long",
]
"""Why a peer said no. Wire values: append only."""


class FederationError(Exception):
    """Root of what federation/ raises."""


class BadRequest(FederationError):
    """The request is wrong wherever it goes; `param` names the field, if one is to blame."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class ContextTooLong(BadRequest):
    """Prompt and answer do not fit the context; nothing was cut silently."""


class ModelNotFound(FederationError):
    """No live peer serves this model."""


class ModelUnavailable(FederationError):
    """The model is known and cannot run now."""


class Busy(FederationError):
    """Every slot that could serve the request is taken, and there is no room to wait for one.

    `retry_after`: seconds until there is, as things go; None: not known.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TimedOut(FederationError):
    """The request waited for a slot as long as it may. `retry_after` as in `Busy`."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Refused(FederationError):
    """One peer said no before it accepted; `load` is how busy it said it was."""

    def __init__(self, reason: RefusalReason, message: str, *, load: Load | None = None) -> None:
        super().__init__(message)
        self.reason: RefusalReason = reason
        self.load = load


class Failed(FederationError):
    """One peer accepted the request and then could not go on."""


class PeerGone(Failed):
    """The connection to the peer broke, or nothing came from it for too long.

    Unlike a failed engine this is evidence against the peer, also before it accepted.
    """


class Stalled(PeerGone):
    """Nothing came from the peer for longer than it takes at its slowest, and it answers no probe either."""


class Misbehaved(Failed):
    """One peer broke the infer protocol."""


class DeadlineExceeded(FederationError):
    """The request's own time is over."""


def refusal_of(error: FederationError) -> Refused:
    """What `error`, raised before anything was accepted, is as one peer's no."""
    match error:
        case Refused():
            return error
        case ContextTooLong():
            return Refused("context_too_long", str(error))
        case BadRequest():
            return Refused("bad_request", str(error))
        case ModelNotFound():
            return Refused("no_such_model", str(error))
        case Busy() | TimedOut() | DeadlineExceeded():
            # A request runs out of time before it was accepted because it waited for a slot.
            return Refused("busy", str(error))
        case _:
            return Refused("model_failed", str(error))
