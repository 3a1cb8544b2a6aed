from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from federation.backend import Constraint, Delivered, InferenceRequest, RequestId, Resume, Sampling
from federation.errors import BadRequest
from ledger.records import ModelName
from node.engine.wire import FilledSampling, PromptPart
from node.engine_request import completion_prompt, engine_request, field_to_blame, require_servable
from node.models.model_yaml import ModelSettings

REQUEST = InferenceRequest("completion", RequestId("r1"), ModelName("m"), prompt="hi")
PROMPT = (PromptPart("hi", parse_special=True),)


def test_what_a_request_leaves_open_is_as_the_model_says() -> None:
    settings = ModelSettings(
        sampling=Sampling(temperature=0.2, top_k=7, seed=3), max_tokens=5, stop=("</s>", "END")
    )
    request = replace(REQUEST, sampling=Sampling(temperature=0.0, top_p=0.5), stop=("END",), ignore_eos=True)
    asked = engine_request(request, settings, PROMPT, stops=("\nUser:",))
    assert asked.sampling == FilledSampling(temperature=0.0, top_k=7, top_p=0.5, seed=3)
    assert (asked.max_tokens, asked.max_tokens_default) == (None, 5)
    assert asked.stop == ("END", "</s>", "\nUser:")
    assert asked.ignore_eos
    assert engine_request(replace(request, max_tokens=9), settings, PROMPT).max_tokens == 9


def test_a_prompt_is_text_or_ids() -> None:
    assert completion_prompt(REQUEST) == PROMPT
    assert completion_prompt(replace(REQUEST, prompt=[1, 2])) == (1, 2)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"timeout": 0.0}, "timeout"),
        ({"timeout": math.inf}, "timeout"),
        ({"timeout": math.nan}, "timeout"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ("",)}, "stop"),
        ({"stop": ("x" * 1025,)}, "stop"),
        ({"stop": ("x",) * 65}, "stop"),
        ({"sampling": Sampling(temperature=-0.1)}, "temperature"),
        ({"sampling": Sampling(temperature=math.nan)}, "temperature"),
        ({"sampling": Sampling(top_p=1.1)}, "top_p"),
        ({"sampling": Sampling(min_p=-1)}, "min_p"),
        ({"sampling": Sampling(top_k=2**31)}, "top_k"),
        ({"kind": "embeddings", "resume": Resume(bytes(32), (Delivered((1,)),))}, "resume"),
    ],
)
def test_what_no_engine_can_serve_is_named(change: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        require_servable(replace(REQUEST, **change))
    assert caught.value.param == param


@pytest.mark.parametrize("prompt", [[-1], [2**31]])
def test_ids_no_vocabulary_has_are_refused(prompt: list[int]) -> None:
    with pytest.raises(BadRequest):
        completion_prompt(replace(REQUEST, prompt=prompt))


@pytest.mark.parametrize(
    ("change", "engine_param", "is_too_long", "blamed"),
    [
        ({}, "n", False, "n"),
        ({}, "", False, None),
        ({}, "", True, "prompt"),
        ({"kind": "chat"}, "", True, "messages"),
        ({"kind": "chat"}, "prompt", False, "messages"),
        ({}, "max_tokens", True, "max_tokens"),
        ({"kind": "embeddings"}, "input", True, "input"),
        ({"kind": "rerank"}, "input", True, "documents"),
        ({"constraint": Constraint("gbnf", "x")}, "grammar", False, "grammar"),
        ({"constraint": Constraint("json_schema", "{}")}, "grammar", False, "response_format"),
        ({"kind": "chat"}, "grammar", False, "tools"),
    ],
)
def test_what_an_engine_finds_at_fault_is_called_as_in_the_request(
    change: dict[str, Any], engine_param: str, is_too_long: bool, blamed: str | None
) -> None:
    request = replace(REQUEST, **change)
    assert field_to_blame(request, engine_param, is_too_long=is_too_long) == blamed
