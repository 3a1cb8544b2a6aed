"""The engine's own child around the real model, which takes a machine's time over each step.

So each token is an event of its own for the client, and a blow falls where it was aimed: SmolLM2 makes a
hundred tokens a second and an engine tells of them forty times a second, several at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from node.engine import child
from node.engine.embed_loop import EmbeddingModel
from node.engine.llama.load import load_model
from node.engine.llama.text_model import TextModel
from node.engine.sampling import Scores
from node.engine.scheduler import Span
from node.engine.step_loop import Model
from node.engine.wire import EngineParams

STEP = 0.03
"""Seconds a step takes at least: 33 tokens a second, as of a model of some gigabytes on such a machine. More
than the time between two pieces of a choice (`node/engine/pacing.py`)."""


class PacedModel:
    """A model that does all the real one does, and no faster than a step in `STEP` seconds."""

    def __init__(self, model: TextModel) -> None:
        self._model = model

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)

    def decode(self, spans: Sequence[Span]) -> list[Scores]:
        began_at = time.monotonic()
        scores = self._model.decode(spans)
        threading.Event().wait(max(0.0, began_at + STEP - time.monotonic()))
        return scores


def load(params: EngineParams, on_loading: Callable[[float], None]) -> Model | EmbeddingModel:
    """What `child.main` is given instead of llama.cpp's own."""
    # Without what kills the first process on machines that hide AMX: a node that comes back is waited for.
    model = load_model(replace(params, use_extra_bufts=False), on_loading)
    return PacedModel(model) if isinstance(model, TextModel) else model  # type: ignore[return-value]


if __name__ == "__main__":
    child.main(load)
