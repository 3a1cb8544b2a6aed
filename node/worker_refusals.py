"""Refusals of a worker: what keeps a model from accepting a request, as the federation calls it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from federation.backend import InferenceRequest
from federation.errors import BadRequest, ContextTooLong, Refused
from node.chat.errors import BadChat, RendererUnavailable, TemplateFailed
from node.engine.errors import (
    EngineBusy,
    EngineFailed,
    EngineUnavailable,
    OtherPrompt,
    PromptRefused,
    PromptTooLong,
)
from node.engine_request import field_to_blame
from node.served_model import ServedModel


@contextmanager
def refusals(model: ServedModel, request: InferenceRequest) -> Iterator[None]:
    """What keeps `model` from accepting `request`, raised as the federation calls it.

    Raises:
      BadRequest: it is wrong wherever it goes; ContextTooLong: for this model.
      Refused: the model cannot serve it now.
    """
    try:
        yield
    except BadChat as error:
        raise BadRequest(str(error), param=error.param) from error
    except TemplateFailed as error:
        raise BadRequest(f"the model's chat template failed: {error}", param="messages") from error
    except PromptTooLong as error:
        param = field_to_blame(request, error.param, is_too_long=True)
        raise ContextTooLong(str(error), param=param) from error
    except OtherPrompt as error:
        raise Refused("resume_mismatch", str(error)) from error
    except PromptRefused as error:
        raise BadRequest(str(error), param=field_to_blame(request, error.param)) from error
    except EngineBusy as error:
        raise Refused("busy", str(error), load=model.load()) from error
    except (EngineFailed, EngineUnavailable, RendererUnavailable) as error:
        raise Refused("model_failed", str(error)) from error
