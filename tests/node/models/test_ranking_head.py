"""A model that ranks has a tensor that makes a number of a text."""

from __future__ import annotations

import pytest

from node.models.gguf_header import GgufHeader, Tensor
from node.models.ranking_head import has_ranking_head


@pytest.mark.parametrize(
    ("metadata", "tensors", "has_head"),
    [
        ({}, ["blk.0.attn_q.weight", "cls.output.weight"], True),
        ({}, ["cls.weight", "cls.bias"], True),
        ({}, ["blk.0.attn_q.weight", "cls.bias", "cls.norm.weight"], False),
        ({"split.count": 1}, [], False),
        ({"split.count": 3}, [], True),
    ],
    ids=["output", "jina", "none", "whole", "one part of three"],
)
def test_a_head_is_seen_in_the_header(metadata: dict[str, int], tensors: list[str], has_head: bool) -> None:
    header = GgufHeader(metadata, {}, tuple(Tensor(name, 4) for name in tensors))
    assert has_ranking_head(header) is has_head
