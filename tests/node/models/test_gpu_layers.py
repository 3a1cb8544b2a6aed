"""As many layers run on a GPU as fit what is free there, with their part of the contexts."""

from __future__ import annotations

import pytest

from node.engine.wire import EngineParams
from node.models.gguf_header import GgufHeader, Tensor, Value
from node.models.gpu_layers import layers_that_fit
from node.models.memory_estimate import Part, movable_parts

GIB = 2**30


@pytest.mark.parametrize(
    ("free", "count"),
    [
        ([], 0),
        ([GIB // 2], 0),
        ([2 * GIB], 1),
        ([4 * GIB], 3),
        ([100 * GIB], 5),
        ([2 * GIB, 2 * GIB], 2),
        ([2 * GIB, GIB // 4], 1),
    ],
)
def test_layers_move_until_the_next_does_not_fit(free: list[int], count: int) -> None:
    # Half a gigabyte of each device is left alone, and a tenth is for the batch.
    assert layers_that_fit([GIB] * 5, free, GIB // 10) == count


def test_a_twentieth_of_a_large_device_is_left_alone() -> None:
    assert layers_that_fit([GIB] * 100, [40 * GIB], 0) == 38


def test_none_is_skipped_for_a_smaller_one_behind_it() -> None:
    assert layers_that_fit([GIB, 9 * GIB, GIB], [4 * GIB], 0) == 1


def test_the_last_layer_moves_first_and_takes_its_cache_along() -> None:
    metadata: dict[str, Value] = {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.context_length": 100,
        "llama.attention.head_count_kv": 1,
        "llama.attention.key_length": 4,
        "llama.attention.value_length": 4,
    }
    tensors = {
        "token_embd.weight": 1000,
        "blk.0.attn_k.weight": 10,
        "blk.1.attn_k.weight": 20,
        "blk.1.ffn_up.weight": 30,
        "blk.9.ffn_up.weight": 7,
        "output_norm.weight": 5,
    }
    cache = 100 * (4 + 4) * 2
    params = EngineParams("m.gguf", slots=1)

    def parts(tensors: dict[str, int]) -> list[Part]:
        return movable_parts(
            GgufHeader(metadata, {}, tuple(Tensor(*item) for item in tensors.items())), params
        )

    assert parts(tensors) == [Part(5, copied=1000), Part(50, cache), Part(10, cache)]
    assert parts({**tensors, "output.weight": 600}) == [Part(5 + 600), Part(50, cache), Part(10, cache)]
    assert [part.size for part in parts(tensors)] == [1005, 50 + cache, 10 + cache]
