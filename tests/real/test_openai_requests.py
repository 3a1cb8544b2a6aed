"""What the official client asks for, through a front, of real models on peers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from node.models.demo_model import DEMO_MODEL_NAME
from tests.real.conftest import LivingSwarm
from tests.real.minilm import convert
from tests.real.swarm_processes import NodeProcess, NodeProcesses, serves

pytestmark = pytest.mark.real

FRUIT = {
    "type": "object",
    "properties": {"fruit": {"type": "string", "maxLength": 20}, "count": {"type": "integer"}},
    "required": ["fruit", "count"],
    "additionalProperties": False,
}
ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": "How many apples are in a dozen?"}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 30}},
            "required": ["city"],
        },
    },
}


@pytest.fixture
def client(living_swarm: LivingSwarm) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{living_swarm.front.api}/v1", api_key="none", max_retries=0)


def test_an_answer_is_json_of_the_schema_that_was_asked_for(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=DEMO_MODEL_NAME,
        messages=ASKED,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "fruit", "schema": FRUIT, "strict": True},
        },
    )
    content = json.loads(answer.choices[0].message.content or "")
    assert set(content) == {"fruit", "count"}
    assert isinstance(content["count"], int)
    assert answer.choices[0].finish_reason == "stop"


def test_a_tool_that_must_be_called_is_called_with_arguments_of_its_schema(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=DEMO_MODEL_NAME,
        messages=[{"role": "user", "content": "What is the weather in Oslo?"}],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        stream=True,
    )
    names, arguments, reasons = [], "", []
    for chunk in stream:
        for choice in chunk.choices:
            reasons.append(choice.finish_reason)
            for call in choice.delta.tool_calls or ():
                assert call.function is not None
                names.append(call.function.name)
                arguments += call.function.arguments or ""
    assert [name for name in names if name] == ["get_weather"]
    assert set(json.loads(arguments)) == {"city"}
    assert reasons[-1] == "tool_calls"


def test_a_grammar_is_kept_to(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=DEMO_MODEL_NAME, messages=ASKED, extra_body={"grammar": 'root ::= "yes" | "no"'}
    )
    assert answer.choices[0].message.content in {"yes", "no"}


def test_several_answers_come_with_the_probabilities_of_their_tokens(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=DEMO_MODEL_NAME, messages=ASKED, n=2, max_tokens=5, logprobs=True, top_logprobs=3, seed=7
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice in answer.choices:
        assert choice.logprobs is not None
        tokens = choice.logprobs.content or []
        assert "".join(token.token for token in tokens) == choice.message.content
        assert all(len(token.top_logprobs) == 3 and token.logprob <= 0 for token in tokens)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 10


def test_a_prompt_that_was_read_before_is_not_read_again(client: openai.OpenAI) -> None:
    messages: list[ChatCompletionMessageParam] = [
        {"role": "user", "content": "Tell me about the sea, in two words. " * 5}
    ]
    cached, read = [], 0
    for _ in range(3):  # Two peers serve it: of three answers one meets its own prompt again.
        answer = client.chat.completions.create(model=DEMO_MODEL_NAME, messages=messages, max_tokens=2)
        assert answer.usage is not None
        assert answer.usage.prompt_tokens_details is not None
        cached.append(answer.usage.prompt_tokens_details.cached_tokens)
        read = answer.usage.prompt_tokens
    assert read - 1 in cached


NONSENSE = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
NO_SUCH_TOOL = {"type": "function", "function": {"name": "other"}}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"response_format": NONSENSE}, "response_format"),
        ({"grammar": "root ::= ("}, "grammar"),
        ({"n": 100}, "n"),
        ({"tools": [WEATHER], "tool_choice": NO_SUCH_TOOL}, "tool_choice"),
    ],
)
def test_what_cannot_be_done_is_named(client: openai.OpenAI, change: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=DEMO_MODEL_NAME, messages=ASKED, extra_body=change)
    assert (caught.value.param or "").startswith(param)


def test_text_and_token_ids_are_told_from_each_other(living_swarm: LivingSwarm) -> None:
    url = f"{living_swarm.front.api}/v1"
    text = "Ünïcode and 🙂"
    tokens = httpx.post(f"{url}/tokenize", json={"model": DEMO_MODEL_NAME, "content": text}).json()["tokens"]
    assert len(tokens) > 3
    written = httpx.post(f"{url}/detokenize", json={"model": DEMO_MODEL_NAME, "tokens": tokens}).json()
    assert written == {"content": text}


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node whose only model embeds."""
    folder = tmp_path_factory.mktemp("embedder")
    convert(folder / "minilm.gguf")
    with NodeProcesses(folder) as nodes:
        node = nodes.run("start", "solo", "--model", str(folder / "minilm.gguf"))
        node.wait_until(lambda rows: serves(rows, "solo"))
        yield node


def test_a_model_that_embeds_says_what_was_published_of_it(embedder: NodeProcess) -> None:
    client = openai.OpenAI(base_url=f"{embedder.api}/v1", api_key="none", max_retries=0)
    texts = [
        "That is a happy person",
        "That is a happy dog",
        "That is a very happy person",
        "Today is a sunny day",
    ]
    vectors = [each.embedding for each in client.embeddings.create(model="minilm", input=texts).data]
    near = [sum(a * b for a, b in zip(vectors[0], vector, strict=True)) for vector in vectors]
    # The examples on the model's page.
    assert near == pytest.approx([1.0, 0.695, 0.943, 0.257], abs=0.002)
    [short] = client.embeddings.create(model="minilm", input="a", dimensions=64).data
    assert len(short.embedding) == 64
    assert math.hypot(*short.embedding) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("embeddings", {"input": ["fine", "word " * 600]}, "input"),
        ("embeddings", {"input": "a" * 1_000_000}, "input"),
        ("embeddings", {"input": [[999_999]]}, "input"),
        ("embeddings", {"input": "a", "dimensions": 385}, "dimensions"),
        ("chat/completions", {"messages": ASKED}, "model"),
        ("completions", {"prompt": "a"}, "model"),
        # It has no head that ranks; its numbers would mean nothing.
        ("rerank", {"query": "a", "documents": ["b"]}, "model"),
        ("tokenize", {"content": "a" * 1_000_000}, "content"),
    ],
)
def test_what_a_model_that_embeds_cannot_do_is_named(
    embedder: NodeProcess, path: str, body: dict[str, Any], param: str
) -> None:
    reply = httpx.post(f"{embedder.api}/v1/{path}", json={"model": "minilm", **body})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
