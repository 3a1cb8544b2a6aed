"""Whether a model that says it ranks has what makes one number of a text. Pure.

llama.cpp loads it without, and then gives a number of the text's vector, which means nothing.
"""

from __future__ import annotations

from node.models.gguf_header import GgufHeader

_HEADS = ("cls.output.weight", "cls.weight")
"""Jina's rankers have the second alone, others the first alone or both."""


def has_ranking_head(header: GgufHeader) -> bool:
    """Whether the file of `header` has the tensors that score, or is one of several that may."""
    is_whole = header.metadata.get("split.count", 1) in (0, 1)
    return not is_whole or any(tensor.name in _HEADS for tensor in header.tensors)
