"""A model file becomes what its metadata says it is for."""

from __future__ import annotations

from node.engine.llama.embedder import Embedder, is_embedder
from node.engine.llama.library import ErrorLog, load_weights
from node.engine.llama.text_model import TextModel
from node.engine.wire import EngineParams


def load_model(params: EngineParams) -> TextModel | Embedder:
    """The model in the file of `params`, ready to be tested.

    Raises:
      ModelNotLoadable: the file is missing, damaged, unknown or too large; the text says which.
    """
    errors = ErrorLog()
    weights = load_weights(params, errors)
    return Embedder(params, weights, errors) if is_embedder(weights) else TextModel(params, weights, errors)
