"""A model is run as its YAML says, and else as the node was asked to."""

from __future__ import annotations

import pytest

from node.engine_params import engine_params
from node.models.model_yaml import ModelSettings


@pytest.mark.parametrize(
    ("settings", "types"),
    [
        (ModelSettings(), ("q8_0", "q8_0")),
        (ModelSettings(f16=False), ("f32", "f32")),
        (ModelSettings(f16=True), ("q8_0", "q8_0")),
        (ModelSettings(cache_type_k="f16"), ("f16", "q8_0")),
        (ModelSettings(cache_type_v="q4_0"), ("q8_0", "q4_0")),
        (ModelSettings(flash_attention="off"), ("q8_0", "f16")),
        (ModelSettings(flash_attention="off", f16=False), ("f32", "f32")),
    ],
)
def test_a_context_is_kept_as_the_model_says_else_as_the_node(
    settings: ModelSettings, types: tuple[str, str]
) -> None:
    params = engine_params("m.gguf", settings, 4, "q8_0")
    assert (params.cache_type_k, params.cache_type_v) == types


def test_what_nobody_said_is_left_to_the_engine() -> None:
    params = engine_params("m.gguf", ModelSettings(), 3, "f16")
    assert (params.slots, params.threads, params.context_size, params.gpu_layers) == (3, 0, 0, None)
    assert (params.mmap, params.mlock, params.flash_attention) == (True, False, "auto")
