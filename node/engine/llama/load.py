"""A model file becomes what its metadata says it is for."""

from __future__ import annotations

from collections.abc import Callable

from node.engine.llama.embedder import Embedder, is_embedder
from node.engine.llama.library import ErrorLog, load_weights
from node.engine.llama.text_model import TextModel
from node.engine.wire import EngineParams


def load_model(params: EngineParams, on_loading: Callable[[float], None]) -> TextModel | Embedder:
    """The model in the file of `params`, ready to be tested. `on_loading`: see `load_weights`.

    Raises:
      ModelNotLoadable: the file is missing, damaged, unknown or too large; the text says which.
    """
    errors = ErrorLog()
    weights = load_weights(params, errors, on_loading)
    return Embedder(params, weights, errors) if is_embedder(weights) else TextModel(params, weights, errors)
