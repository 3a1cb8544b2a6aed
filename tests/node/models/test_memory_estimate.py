"""What a model will take is known from its header, whatever the file says."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from node.engine.wire import EngineParams
from node.models.definition import define_model
from node.models.demo_model import find_demo_model
from node.models.gguf_header import BadHeader, GgufHeader, Tensor, read_gguf_header
from node.models.memory_estimate import MemoryEstimate, estimate_memory, guess_memory, largest_model
from node.served_model import estimate_from_header

MIB = 2**20
LLAMA = {
    "general.architecture": "llama",
    "llama.block_count": 10,
    "llama.context_length": 8192,
    "llama.embedding_length": 512,
    "llama.feed_forward_length": 1024,
    "llama.attention.head_count": 8,
    "llama.attention.head_count_kv": 2,
}


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def packed(value: Any) -> bytes:
    """A metadata value, its type first."""
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + text(value)
        case [str(), *_]:
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
        case _:
            return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)


def gguf(metadata: dict[str, Any], tensors: dict[str, int] | None = None) -> bytes:
    """A file with `tensors` of so many bytes."""
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors or {}), len(metadata))
    head += b"".join(text(key) + packed(value) for key, value in metadata.items())
    offset = 0
    for name, size in (tensors or {}).items():
        head += text(name) + struct.pack("<IQIQ", 1, size, 0, offset)
        offset += size
    return head + bytes(-len(head) % 32) + bytes(offset)


def header(metadata: dict[str, Any], tokens: int = 0) -> GgufHeader:
    return GgufHeader(metadata, {"tokenizer.ggml.tokens": tokens}, ())


def cache(metadata: dict[str, Any], **params: Any) -> int:
    return estimate_memory(header(metadata), 0, EngineParams("m.gguf", **params)).cache


def test_a_header_is_read_past_its_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    words = [f"word {number}" for number in range(300_000)]
    layers = {"llama.attention.head_count_kv": [2, 0, 2], "tokenizer.ggml.scores": list(range(10_000))}
    content = {**LLAMA, **layers, "tokenizer.ggml.tokens": words, "general.name": "n" * 5000, "last": True}
    path.write_bytes(gguf(content, {"a": 64, "b": 32}))
    read = read_gguf_header(path)
    assert read.metadata["llama.block_count"] == 10
    assert read.metadata["llama.attention.head_count_kv"] == (2, 0, 2)
    assert read.metadata["last"] is True
    assert not {"general.name", "tokenizer.ggml.tokens", "tokenizer.ggml.scores"} & read.metadata.keys()
    assert read.list_lengths["tokenizer.ggml.tokens"] == 300_000
    assert read.tensors == (Tensor("a", 64), Tensor("b", 32))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"nothing of that kind at all", "it starts with"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 2**40, 1), "1099511627776 tensors"),
        (struct.pack("<4sIQQQ", b"GGUF", 3, 0, 1, 2**60), "cut off"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + text("k") + struct.pack("<I", 99), "unknown type 99"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + text("k") + struct.pack("<IIQ", 9, 8, 2**50), "lists of"),
        (
            struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + text("k") + struct.pack("<IIQ", 9, 9, 1),
            "unknown type 9",
        ),
        (gguf({"general.alignment": 0}), "alignment of 0"),
        (gguf({}, {"a": 64})[:-66], "end after the file"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 1, 0) + text("a") + struct.pack("<I", 9), "9 dimensions"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(BadHeader, match=says):
        read_gguf_header(path)


@given(cut=st.integers(0, 700), at=st.integers(0, 699), value=st.integers(0, 255))
def test_a_damaged_header_is_an_error_or_a_header(
    cut: int, at: int, value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    damaged = bytearray(gguf({**LLAMA, "tokenizer.ggml.tokens": ["a", "bc"], "x": 0.5}, {"a": 64}))
    damaged[at % len(damaged)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(damaged[: len(damaged) - cut])
    try:
        read = read_gguf_header(path)
    except BadHeader:
        return
    assert estimate_memory(read, 1000, EngineParams("m.gguf")).total > 0


def test_a_cache_holds_the_contexts_of_all_slots() -> None:
    # 10 layers of 2 heads with 64 numbers of two bytes, for keys and for values.
    assert cache(LLAMA, slots=1, context_size=1000) == 1000 * 10 * 2 * 64 * 2 * 2
    assert cache(LLAMA, slots=3) == 3 * 4096 * 10 * 2 * 64 * 2 * 2
    assert cache(LLAMA, slots=1, context_size=100_000) == cache(LLAMA, slots=1, context_size=8192)


def test_a_quantised_cache_is_smaller_by_what_its_blocks_save() -> None:
    full = cache(LLAMA)
    assert cache(LLAMA, cache_type_k="q8_0", cache_type_v="q8_0") == full * 8.5 / 16
    assert cache(LLAMA, cache_type_v="q4_0") == full / 2 + full / 2 * 4.5 / 16


def test_each_layer_may_have_heads_of_its_own() -> None:
    per_layer = {**LLAMA, "llama.attention.head_count_kv": (2, 4) * 5, "llama.attention.key_length": 128}
    assert cache(per_layer, slots=1, context_size=1) == 10 * 3 * (128 + 64) * 2


def test_layers_without_attention_keep_a_state_and_no_cache() -> None:
    ssm = {"ssm.inner_size": 1024, "ssm.state_size": 16, "ssm.conv_kernel": 4, "ssm.group_count": 1}
    hybrid = {**LLAMA, "llama.attention.head_count_kv": (0,) * 8 + (2,) * 2}
    hybrid |= {f"llama.{key}": value for key, value in ssm.items()}
    state = 4 * (1024 * 16 + 3 * (1024 + 2 * 16))
    assert cache(hybrid, slots=4, context_size=100) == 400 * 2 * 2 * 64 * 2 * 2 + 4 * 8 * state


def test_a_model_that_reads_both_ways_keeps_no_cache() -> None:
    bert = {**LLAMA, "llama.pooling_type": 1, "llama.attention.causal": False}
    assert cache(bert) == 0


def test_without_a_header_it_is_guessed() -> None:
    guess = estimate_memory(None, 800 * MIB, EngineParams("m.gguf"))
    assert 800 * MIB < guess.total < 1200 * MIB


def test_the_demo_model_takes_what_was_measured() -> None:
    path = find_demo_model()
    estimate = estimate_memory(read_gguf_header(path), path.stat().st_size, EngineParams(str(path), slots=4))
    # 546 MiB were resident after loading, 560 after a prompt of a thousand tokens.
    assert 560 * MIB < estimate.total < 590 * MIB


DEVICE_LLAMA: dict[str, Any] = {**LLAMA, "llama.block_count": 4}
LAYER = 1000 * MIB
HEAD, EMBEDDINGS = 300 * MIB, 400 * MIB
CARD = 64 * 2**30


def on_card(
    free: list[int], *, has_output: bool = True, **params: Any
) -> tuple[MemoryEstimate, MemoryEstimate]:
    """What four layers of a gigabyte take without a device, and with `free` bytes on some."""
    tensors = [Tensor("token_embd.weight", EMBEDDINGS)]
    tensors += [Tensor(f"blk.{layer}.ffn_up.weight", LAYER) for layer in range(4)]
    tensors += [Tensor("output.weight", HEAD)] if has_output else []
    size = sum(tensor.size_bytes for tensor in tensors)
    whole = GgufHeader(DEVICE_LLAMA, {}, tuple(tensors))
    settings = EngineParams("m.gguf", **{"slots": 1, "context_size": 1024, **params})
    return estimate_memory(whole, size, settings), estimate_memory(whole, size, settings, free)


def test_what_goes_to_a_device_takes_none_of_the_machines_memory() -> None:
    host, split = on_card([CARD])
    assert (split.weights, split.cache) == (EMBEDDINGS, 0)
    assert split.device == HEAD + 4 * LAYER + host.cache + host.compute
    assert split.total == host.total - (HEAD + 4 * LAYER + host.cache)


def test_of_what_does_not_fit_a_device_the_rest_stays() -> None:
    host, split = on_card([512 * MIB + HEAD + 2 * (LAYER + 20 * MIB) + 100 * MIB])
    assert split.weights == host.weights - HEAD - 2 * LAYER
    assert split.cache == host.cache / 2
    host, split = on_card([400 * MIB])
    assert split == host


def test_a_full_device_leaves_a_second_model_where_it_was() -> None:
    first = on_card([6 * 2**30])[1]
    left = 6 * 2**30 - first.device
    host, second = on_card([left])
    assert first.total < second.total
    assert second.device <= left
    assert second.total > host.total - 2 * LAYER


def test_embeddings_that_are_copied_to_a_device_stay_here_too() -> None:
    host, split = on_card([CARD], has_output=False)
    assert split.weights == EMBEDDINGS
    assert split.device == EMBEDDINGS + 4 * LAYER + host.cache + host.compute


@pytest.mark.parametrize(("asked", "layers"), [(0, 0), (3, 2), (99, 4), (-1, 4)])
def test_as_many_layers_move_as_somebody_said_if_there_is_a_device(asked: int, layers: int) -> None:
    host, split = on_card([2**30], gpu_layers=asked)
    assert split.weights == host.weights - layers * LAYER - (HEAD if asked else 0)
    assert on_card([], gpu_layers=asked)[1] == host


def test_a_model_is_estimated_with_what_the_devices_have_free(monkeypatch: pytest.MonkeyPatch) -> None:
    definition = define_model(find_demo_model(), memory_bytes=2**40)
    params = EngineParams(str(definition.path))

    def estimated(free: list[int]) -> int:
        monkeypatch.setattr("node.served_model.free_device_bytes", lambda: free)
        return trio.run(estimate_from_header, definition, params)

    # 94 MiB of weights, of which the embeddings stay, and contexts of 360.
    assert estimated([]) - estimated([CARD]) > 400 * MIB


@given(st.integers(0, 2**45))
def test_the_largest_model_that_fits_is_the_last_that_does(memory_bytes: int) -> None:
    size_bytes = largest_model(memory_bytes)
    assert size_bytes == 0 or guess_memory(size_bytes).total <= memory_bytes
    assert guess_memory(size_bytes + 1).total > memory_bytes
