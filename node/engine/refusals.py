"""Refusals: the errors of a request as messages from the child, and back."""

from __future__ import annotations

from collections.abc import Mapping

from node.engine.errors import OtherPrompt, PromptRefused, PromptTooLong
from node.engine.wire import Refused, RefusedBecause

_ERRORS: Mapping[RefusedBecause, type[PromptRefused]] = {
    "unservable": PromptRefused,
    "too_long": PromptTooLong,
    "other_prompt": OtherPrompt,
}
_BECAUSE: Mapping[type[PromptRefused], RefusedBecause] = {kind: because for because, kind in _ERRORS.items()}


def refusal(request_id: int, error: PromptRefused) -> Refused:
    """What the child says of a request that ended with `error`."""
    return Refused(request_id, str(error), _BECAUSE.get(type(error), "unservable"), error.param)


def refused_with(refused: Refused) -> PromptRefused:
    """The error that `refused` was."""
    return _ERRORS[refused.because](refused.reason, param=refused.param)
