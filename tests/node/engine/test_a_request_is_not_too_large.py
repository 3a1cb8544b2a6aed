"""What is too much for one request is refused before it holds up the node."""

from __future__ import annotations

import pytest

from federation.backend import Delivered, Resume
from node.engine.engine_prompt import TOKENS_AT_ONCE_MAX
from node.engine.errors import PromptRefused
from node.engine.lookup import TEXT_SIZE_MAX
from node.engine.request_size import INPUT_IDS_MAX, require_short
from node.engine.wire import (
    DetokenizeRequest,
    EmbedRequest,
    EngineRequest,
    GenerateRequest,
    ModelFacts,
    PromptPart,
    TokenizeRequest,
)

FACTS = ModelFacts(1000, 256, None, "", "", (), ())


def tokenize(size: int) -> TokenizeRequest:
    return TokenizeRequest(PromptPart("x" * size, parse_special=True), adds_special=False)


def resumed(*sizes: int) -> GenerateRequest:
    return GenerateRequest((1,), resume=Resume(bytes(32), tuple(Delivered((1,) * size) for size in sizes)))


LARGEST: list[EngineRequest] = [
    GenerateRequest((1,) * 1000),
    resumed(1000),
    EmbedRequest(((1,) * 1000,) * (INPUT_IDS_MAX // 1000)),
    tokenize(TEXT_SIZE_MAX),
    DetokenizeRequest((1,) * TOKENS_AT_ONCE_MAX),
]


@pytest.mark.parametrize("request_", LARGEST)
def test_as_much_as_a_model_can_use_is_let_through(request_: EngineRequest) -> None:
    require_short(request_, FACTS)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (GenerateRequest((1,) * 1001), "prompt"),
        (resumed(1001), "resume"),
        (resumed(1, 1), "resume"),
        (EmbedRequest(((1,) * 1001,)), "input"),
        (EmbedRequest(((1,) * 1000,) * (INPUT_IDS_MAX // 1000 + 1)), "input"),
        (tokenize(TEXT_SIZE_MAX + 1), "content"),
        (DetokenizeRequest((1,) * (TOKENS_AT_ONCE_MAX + 1)), "tokens"),
    ],
)
def test_more_is_refused_by_name(request_: EngineRequest, param: str) -> None:
    with pytest.raises(PromptRefused) as caught:
        require_short(request_, FACTS)
    assert caught.value.param == param
