"""Batch: the tokens of one `llama_decode`, in the arrays that it reads.

A run of tokens is written a column at a time: through `llama_batch`'s own pointers every number
is a call of its own, which for a step of 16 sequences takes as long as choosing three tokens.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from llama_cpp import llama_cpp


class Batch:
    """Room for `size_max` tokens, each of one sequence. `raw`: what `llama_decode` takes."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._tokens = (llama_cpp.llama_token * size_max)()
        self._positions = (llama_cpp.llama_pos * size_max)()
        self._sequences = (llama_cpp.llama_seq_id * size_max)()
        self._outputs = (ctypes.c_int8 * size_max)()
        self.raw = llama_cpp.llama_batch(
            token=self._tokens,
            pos=self._positions,
            n_seq_id=(ctypes.c_int32 * size_max)(*[1] * size_max),
            seq_id=self._one_sequence_each(),
            logits=self._outputs,
        )

    def __len__(self) -> int:
        return int(self.raw.n_tokens)

    def clear(self) -> None:
        """Nothing is in it."""
        self.raw.n_tokens = 0

    def add(self, sequence: int, position: int, tokens: Sequence[int], *, outputs: int) -> None:
        """`tokens` go into `sequence`, the first at `position`. After the last `outputs` of them the model
        says something."""
        begin, count = len(self), len(tokens)
        end = begin + count
        assert end <= self._size_max, "a larger batch would abort the process"
        self._tokens[begin:end] = tokens
        self._positions[begin:end] = range(position, position + count)
        self._sequences[begin:end] = [sequence] * count
        self._outputs[begin:end] = [int(row >= count - outputs) for row in range(count)]
        self.raw.n_tokens = end

    def _one_sequence_each(self) -> Any:  # noqa: ANN401 (a ctypes array)
        pointer = ctypes.POINTER(llama_cpp.llama_seq_id)
        size = ctypes.sizeof(llama_cpp.llama_seq_id)
        places = range(0, size * self._size_max, size)
        return (pointer * self._size_max)(
            *(pointer(llama_cpp.llama_seq_id.from_buffer(self._sequences, place)) for place in places)
        )
