"""What a model will take is known from its header, whatever the file says."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.engine.wire import EngineParams
from node.models.demo_model import find_demo_model
from node.models.gguf_header import BadHeader, GgufHeader, Tensor, read_gguf_header
from node.models.memory_estimate import estimate_memory

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
    # 523 MiB were resident after loading, 537 after a prompt of a thousand tokens.
    assert 537 * MIB < estimate.total < 570 * MIB
