"""What a server takes reaches it in its own words, and what it does not take is refused by name."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, get_args

import pytest

from federation.backend import Constraint, Delivered, InferenceRequest, Resume, Sampling
from federation.errors import BadRequest, Refused
from node.attached.dialect import (
    LLAMA_CPP_PYTHON,
    LLAMA_SERVER,
    LM_STUDIO,
    OLLAMA,
    OTHER,
    VLLM,
    Dialect,
    Feature,
)
from node.attached.request_body import (
    INPUTS_PER_QUESTION,
    encode_body,
    lookup_question,
    require_no_resume,
    text_question,
    vector_questions,
)
from tests.node.attached.requests import MESSAGES, asking

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
ALL = (LLAMA_SERVER, VLLM, OLLAMA, LM_STUDIO, LLAMA_CPP_PYTHON, OTHER)


def body_of(request: InferenceRequest, dialect: Dialect = OTHER) -> dict[str, Any]:
    return text_question(request, "the/model:id", dialect).body


@pytest.mark.parametrize("dialect", ALL, ids=lambda dialect: dialect.name)
def test_a_plain_chat_is_the_same_everywhere(dialect: Dialect) -> None:
    question = text_question(asking(max_tokens=5, stop=("x",)), "the/model:id", dialect)
    assert question.path == "/v1/chat/completions"
    question.body.pop("return_progress", None)
    assert question.body == {
        "model": "the/model:id",
        "messages": list(MESSAGES),
        "max_tokens": 5,
        "stop": ["x"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_developer_speaks_as_the_system() -> None:
    request = asking(messages=({"role": "developer", "content": "be brief"},))
    assert body_of(request)["messages"] == [{"role": "system", "content": "be brief"}]


def test_every_sampling_parameter_is_a_feature_that_some_server_takes() -> None:
    names = {each.name for each in fields(Sampling)}
    assert names <= set(get_args(Feature))
    assert names <= LLAMA_SERVER.chat


def test_each_sampling_parameter_is_passed_on_or_refused_by_its_name() -> None:
    values: dict[str, Any] = {each.name: 1 for each in fields(Sampling)}
    values["logit_bias"] = {7: -1.5}
    for dialect in ALL:
        for name, value in values.items():
            request = asking(sampling=Sampling(**{name: value}))
            if name not in dialect.chat:
                with pytest.raises(BadRequest, match=f"`{name}`: {dialect.name}") as caught:
                    body_of(request, dialect)
                assert caught.value.param == name
            else:
                said = body_of(request, dialect)[dialect.renamed.get(name, name)]
                assert said == ({"7": -1.5} if name == "logit_bias" else value)


def test_a_repeat_penalty_has_another_name_in_vllm() -> None:
    assert body_of(asking(sampling=Sampling(repeat_penalty=1.2)), VLLM)["repetition_penalty"] == 1.2


@pytest.mark.parametrize(
    ("fields_", "param"),
    [
        ({"choices": 2}, "n"),
        ({"ignore_eos": True}, "ignore_eos"),
        ({"constraint": Constraint("gbnf", "root ::= [a]")}, "grammar"),
        ({"tools": (TOOL,), "tool_choice": "required"}, "tool_choice"),
        ({"tools": (TOOL,), "tool_choice": "function:look"}, "tool_choice"),
        ({"tools": (TOOL,), "allows_parallel_tool_calls": False}, "parallel_tool_calls"),
    ],
)
def test_what_ollama_would_quietly_leave_out_is_refused(fields_: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest, match="Ollama") as caught:
        body_of(asking(**fields_), OLLAMA)
    assert caught.value.param == param


def test_choices_eos_probabilities_and_grammars_are_told_in_llama_servers_words() -> None:
    request = asking(
        choices=2, ignore_eos=True, top_logprobs=3, constraint=Constraint("gbnf", "root ::= [a]")
    )
    body = body_of(request, LLAMA_SERVER)
    assert (body["n"], body["ignore_eos"], body["grammar"]) == (2, True, "root ::= [a]")
    assert (body["logprobs"], body["top_logprobs"]) == (True, 3)
    assert body["return_progress"] is True


def test_tools_are_passed_on_with_what_must_be_called() -> None:
    named = body_of(asking(tools=(TOOL,), tool_choice="function:look"))
    assert named["tools"] == [TOOL]
    assert named["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert body_of(asking(tools=(TOOL,), tool_choice="required"))["tool_choice"] == "required"
    single = body_of(asking(tools=(TOOL,), allows_parallel_tool_calls=False))
    assert single["parallel_tool_calls"] is False
    assert "tool_choice" not in single


def test_a_tool_that_must_be_called_is_told_alone_where_it_cannot_be_named() -> None:
    other = {"type": "function", "function": {"name": "other"}}
    for dialect in (LLAMA_SERVER, LM_STUDIO):
        body = body_of(asking(tools=(other, TOOL), tool_choice="function:look"), dialect)
        assert (body["tools"], body["tool_choice"]) == ([TOOL], "required")
    assert body_of(asking(tools=(other, TOOL), tool_choice="function:look"), VLLM)["tools"] == [other, TOOL]


def test_a_model_is_not_told_of_tools_that_it_must_not_call() -> None:
    assert "tools" not in body_of(asking(tools=(TOOL,), tool_choice="none"))


def test_a_schema_is_told_as_each_server_reads_it() -> None:
    constraint = Constraint("json_schema", json.dumps(SCHEMA))
    named = {"name": "answer", "strict": True, "schema": SCHEMA}
    for dialect in (OTHER, VLLM, OLLAMA, LM_STUDIO, LLAMA_SERVER):
        body = body_of(asking(constraint=constraint), dialect)
        assert body["response_format"] == {"type": "json_schema", "json_schema": named}
    body = body_of(asking("completion", constraint=constraint), LLAMA_SERVER)
    assert body["json_schema"] == SCHEMA
    with pytest.raises(BadRequest) as caught:
        body_of(asking(constraint=constraint), LLAMA_CPP_PYTHON)
    assert caught.value.param == "response_format"


@pytest.mark.parametrize("text", ["{", "[" * 100_000])
def test_a_schema_that_is_none_is_the_clients_mistake(text: str) -> None:
    with pytest.raises(BadRequest, match="not JSON") as caught:
        body_of(asking(constraint=Constraint("json_schema", text)))
    assert caught.value.param == "response_format"


def test_any_object_is_a_schema_to_who_knows_no_plain_objects() -> None:
    constraint = Constraint("json_object")
    assert body_of(asking(constraint=constraint))["response_format"] == {"type": "json_object"}
    told = body_of(asking(constraint=constraint), LM_STUDIO)["response_format"]
    assert told["json_schema"]["schema"] == {"type": "object"}


def test_a_completion_without_a_limit_has_none_either_where_the_default_is_16_tokens() -> None:
    assert body_of(asking("completion"), VLLM)["max_tokens"] is None
    assert "max_tokens" not in body_of(asking("completion"), OLLAMA)
    assert body_of(asking("completion", max_tokens=3), VLLM)["max_tokens"] == 3


def test_a_completion_brings_suffix_probabilities_and_token_ids() -> None:
    assert body_of(asking("completion", suffix="end"), OLLAMA)["suffix"] == "end"
    assert body_of(asking("completion", top_logprobs=2), VLLM)["logprobs"] == 2
    assert body_of(asking("completion", prompt=(1, 2)), LLAMA_SERVER)["prompt"] == [1, 2]
    for fields_, param in (({"suffix": "end"}, "suffix"), ({"prompt": (1, 2)}, "prompt")):
        with pytest.raises(BadRequest) as caught:
            body_of(asking("completion", **fields_))
        assert caught.value.param == param
    with pytest.raises(BadRequest, match="echo"):
        body_of(asking("completion", prompt=(1, 2), is_echoed=True), LLAMA_SERVER)


def test_an_answer_is_not_gone_on_with() -> None:
    with pytest.raises(Refused, match="token ids") as caught:
        require_no_resume(asking(resume=Resume(bytes(32), (Delivered((1, 2)),))), VLLM)
    assert caught.value.reason == "resume_mismatch"


@pytest.mark.parametrize("dialect", ALL, ids=lambda dialect: dialect.name)
def test_a_chat_is_gone_on_with_where_that_can_be_asked_for(dialect: Dialect) -> None:
    begun = asking(messages=(*MESSAGES, {"role": "assistant", "content": "good"}), is_begun=True)
    if dialect is VLLM:
        require_no_resume(begun, dialect)
        body = body_of(begun, dialect)
        assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    else:
        with pytest.raises(Refused, match="last message") as caught:
            require_no_resume(begun, dialect)
        assert caught.value.reason == "resume_mismatch"


def test_inputs_are_asked_a_few_at_a_time_and_in_order() -> None:
    texts = tuple(f"text {index}" for index in range(INPUTS_PER_QUESTION + 3))
    questions = list(vector_questions(asking("embeddings", inputs=texts), "m", OTHER))
    assert [(each.first_input, each.inputs) for each in questions] == [
        (0, INPUTS_PER_QUESTION),
        (INPUTS_PER_QUESTION, 3),
    ]
    assert [text for each in questions for text in each.body["input"]] == list(texts)
    assert questions[0].path == "/v1/embeddings"


def test_texts_and_token_ids_do_not_share_a_question() -> None:
    request = asking("embeddings", inputs=("a", "b", (1, 2), "c"))
    questions = list(vector_questions(request, "m", VLLM))
    assert [(each.first_input, each.body["input"]) for each in questions] == [
        (0, ["a", "b"]),
        (2, [[1, 2]]),
        (3, ["c"]),
    ]
    with pytest.raises(BadRequest, match="no token ids"):
        vector_questions(request, "m", OLLAMA)


def test_documents_are_ranked_where_the_server_can() -> None:
    request = asking("rerank", prompt="which?", inputs=("a", "b"))
    [question] = vector_questions(request, "m", VLLM)
    assert question.path == "/v1/rerank"
    assert question.body == {"model": "m", "query": "which?", "documents": ["a", "b"], "top_n": 2}
    with pytest.raises(BadRequest, match="Ollama ranks no documents"):
        vector_questions(request, "m", OLLAMA)
    with pytest.raises(BadRequest, match="empty"):
        vector_questions(asking("rerank", prompt="which?"), "m", VLLM)


def test_token_ids_are_asked_for_in_the_words_of_who_tells_them() -> None:
    text, ids = asking("tokenize", prompt="hi", adds_special=True), asking("detokenize", prompt=(1, 2))
    assert lookup_question(text, "m", LLAMA_SERVER).body == {
        "model": "m",
        "content": "hi",
        "add_special": True,
    }
    assert lookup_question(text, "m", VLLM).body == {
        "model": "m",
        "prompt": "hi",
        "add_special_tokens": True,
    }
    assert lookup_question(ids, "m", VLLM).body == {"model": "m", "tokens": [1, 2]}
    with pytest.raises(BadRequest, match="tells no token ids"):
        lookup_question(text, "m", OLLAMA)
    for request in (asking("tokenize", prompt=(1,)), asking("detokenize", prompt="hi")):
        with pytest.raises(BadRequest):
            lookup_question(request, "m", VLLM)


def test_a_body_is_json_in_utf8() -> None:
    assert encode_body({"text": "é", "max_tokens": None}) == '{"text":"é","max_tokens":null}'.encode()
    # Half a surrogate pair, which no client of ours can send, is no reason to fall over.
    assert encode_body({"text": "\ud83d"}) == b'{"text":"?"}'
