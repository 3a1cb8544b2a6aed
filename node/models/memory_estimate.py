"""What memory a model will take, before it is loaded. Pure: from its header and how it will be run.

    weights      the file, mapped or read
    cache        keys and values of all slots' contexts, taken whole at the start; what recurrent layers keep
    compute      what one batch needs on its way through the layers
    process      Python, the libraries, and our tables of the vocabulary

    device       what of the first two goes to GPUs with memory of their own, and their own compute

Measured on two models with 1 to 16 slots, it is 4 to 8 % above what is resident once it is loaded, since
what a batch needs is touched by the first long prompt only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from node.engine.wire import CacheType, EngineParams
from node.models.gguf_header import GgufHeader, Number
from node.models.gpu_layers import layers_that_fit

_PROCESS_SIZE = 60 * 2**20
"""Bytes of an engine with a model of no size: measured."""
_TOKEN_SIZE = 660
"""Bytes that a token of the vocabulary takes in our tables, in llama.cpp's, and most of all in the index for
grammars: measured."""
_BATCH = 512
"""Tokens that go through the layers at once (`scheduler.BATCH_MAX`)."""
_CONTEXT_DEFAULT = 4096
"""Where neither the settings nor the model say less (`text_model.CONTEXT_SIZE_DEFAULT`)."""
_TEXT_DEFAULT = 2048
"""The same of a model that embeds."""
_VALUE_BITS: Mapping[CacheType, float] = {"f32": 32, "f16": 16, "q8_0": 8.5, "q4_0": 4.5}
"""Of one number in the cache: blocks of 32 share a scale of 16 bits."""
_LAYERS_MAX = 10_000
"""A damaged header may name any number; the largest models have some hundred."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes: of the machine's memory, and of its devices' own."""

    weights: int
    cache: int
    compute: int
    process: int
    device: int = 0

    @property
    def total(self) -> int:
        """Of the machine's memory."""
        return self.weights + self.cache + self.compute + self.process


@dataclass(frozen=True, slots=True)
class Part:
    """Something that can move to a device. Bytes."""

    weights: int
    cache: int = 0
    copied: int = 0
    """Weights that stay where they were, too."""

    @property
    def size(self) -> int:
        """That it takes on a device."""
        return self.weights + self.cache + self.copied


def estimate_memory(
    header: GgufHeader | None, file_size: int, params: EngineParams, free_bytes: Sequence[int] = ()
) -> MemoryEstimate:
    """What the engine of `params` will take.

    Args:
      header: of its file. None: it could not be read, so a cache is guessed as for a model of that size with
        grouped queries, and none of it is believed to fit a device.
      free_bytes: of each device with memory of its own.
    """
    if header is None:
        return guess_memory(file_size)
    shape = _Shape(header)
    cells = shape.cells(params)
    cache = sum(shape.cache_per_cell(layer, params) for layer in range(shape.layers)) * cells
    compute = shape.compute_size(cells, params)
    moved = _moved(movable_parts(header, params), params.gpu_layers, free_bytes, compute)
    return MemoryEstimate(
        weights=file_size - sum(part.weights for part in moved),
        # What recurrent layers keep moves along. It is little, and counted here nevertheless.
        cache=int(cache) - sum(part.cache for part in moved) + shape.recurrent_size * params.slots,
        # Also where all layers have moved: what goes to a device and comes back is kept on both sides.
        compute=compute,
        process=_PROCESS_SIZE + _TOKEN_SIZE * shape.vocabulary,
        device=sum(part.size for part in moved) + (compute * len(free_bytes) if moved else 0),
    )


def guess_memory(file_size: int) -> MemoryEstimate:
    """What an engine will take of whose model nothing is known but its size, in bytes: a cache as for a model
    of that size with grouped queries, and nothing on a device."""
    return MemoryEstimate(file_size, file_size // 8, file_size // 16, _PROCESS_SIZE)


def largest_model(memory_bytes: int) -> int:
    """Bytes of the largest model of which `guess_memory` says that it takes no more than `memory_bytes`."""
    # Near what is left by the shares that are guessed for each byte; each of the two is rounded down.
    size_bytes = max(memory_bytes - _PROCESS_SIZE, 0) * 16 // 19 + 2
    while size_bytes > 0 and guess_memory(size_bytes).total > memory_bytes:
        size_bytes -= 1
    return size_bytes


def _moved(
    parts: Sequence[Part], asked: int | None, free_bytes: Sequence[int], compute: int
) -> Sequence[Part]:
    if not free_bytes:
        return ()
    if asked is None:
        asked = layers_that_fit([part.size for part in parts], free_bytes, compute)
    return parts if asked == -1 else parts[:asked]


def movable_parts(header: GgufHeader, params: EngineParams) -> list[Part]:
    """What can move to a GPU, in the order in which it does: what follows the layers, then each layer
    with its part of the cache, the last one first. Token embeddings stay where they are."""
    shape = _Shape(header)
    cells = shape.cells(params)
    layers = [0] * shape.layers
    output = embeddings = 0
    has_output = False
    for tensor in header.tensors:
        kind, _, rest = tensor.name.partition(".")
        number = rest.partition(".")[0]
        if kind == "blk" and number.isdecimal() and int(number) < len(layers):
            layers[int(number)] += tensor.size_bytes
        elif kind.startswith("output"):
            output += tensor.size_bytes
            has_output = has_output or tensor.name == "output.weight"
        elif tensor.name == "token_embd.weight":
            embeddings = tensor.size_bytes
    # Without a matrix of its own for the scores, a model uses a copy of its embeddings.
    head = Part(output, copied=0 if has_output else embeddings)
    caches = (int(shape.cache_per_cell(layer, params) * cells) for layer in range(shape.layers))
    return [head, *reversed([Part(*both) for both in zip(layers, caches, strict=True)])]


class _Shape:
    """The numbers of one model that count. What is not told, or cannot be, is 0."""

    def __init__(self, header: GgufHeader) -> None:
        self._metadata = header.metadata
        self._architecture = header.metadata.get("general.architecture")
        self.layers = min(self._number("block_count"), _LAYERS_MAX)
        self.vocabulary = header.list_lengths.get("tokenizer.ggml.tokens", 0)
        self._width = self._number("embedding_length")
        self._heads = self._number("attention.head_count")
        self._is_embedder = self._number("pooling_type") > 0
        head_size = self._width // self._heads if self._heads else 0
        self._key_size = self._number("attention.key_length") or head_size
        self._value_size = self._number("attention.value_length") or head_size

    def cells(self, params: EngineParams) -> int:
        """Tokens that all contexts together hold."""
        trained = self._number("context_length")
        if self._is_embedder:
            wanted = params.context_size or _TEXT_DEFAULT
            return max(min(wanted, trained or wanted), _BATCH)
        wanted = params.context_size or _CONTEXT_DEFAULT
        return min(wanted, trained or wanted) * params.slots

    def cache_per_cell(self, layer: int, params: EngineParams) -> float:
        """Bytes of one token in one layer. A sliding window saves none: all is kept, to go back to."""
        if self._is_embedder and self._metadata.get(f"{self._architecture}.attention.causal") is False:
            return 0
        heads = self._number("attention.head_count_kv", layer)
        if not heads and not self._recurrent_layer_size:
            heads = self._heads
        key_bits = self._key_size * _VALUE_BITS[params.cache_type_k]
        value_bits = self._value_size * _VALUE_BITS[params.cache_type_v]
        return heads * (key_bits + value_bits) / 8

    @property
    def recurrent_size(self) -> int:
        """Bytes of what layers without attention keep of one sequence."""
        return self._recurrent_layer_size * sum(
            not self._number("attention.head_count_kv", layer) for layer in range(self.layers)
        )

    @property
    def _recurrent_layer_size(self) -> int:
        inner, state = self._number("ssm.inner_size"), self._number("ssm.state_size")
        groups, kernel = self._number("ssm.group_count"), self._number("ssm.conv_kernel")
        # 32-bit numbers: the state itself, and the tokens that the convolution looks back on.
        return 4 * (inner * state + max(kernel - 1, 0) * (inner + 2 * groups * state))

    def compute_size(self, cells: int, params: EngineParams) -> int:
        """Bytes of one batch: what each layer makes of its tokens, who may see whom, and the scores."""
        batch = cells if self._is_embedder else _BATCH
        masks = 2 if self._number("attention.sliding_window") else 1
        feed_forward = max(
            (self._number("feed_forward_length", layer) for layer in range(self.layers)), default=0
        )
        per_token = 4 * (3 * feed_forward + 4 * self._width) + 2 * masks * cells
        return batch * per_token + 4 * params.slots * self.vocabulary

    def _number(self, key: str, layer: int = 0) -> int:
        """A value of the model's architecture, or the one of `layer` where each has its own."""
        value = self._metadata.get(f"{self._architecture}.{key}", 0)
        if isinstance(value, tuple):
            value = value[layer] if layer < len(value) else 0
        return _whole(value) if isinstance(value, int | float) else 0


def _whole(value: Number) -> int:
    # What cannot be a size is none: the file may say anything, and is refused by llama.cpp, not here.
    return int(value) if 0 <= value < 2**31 else 0
