"""What a server is asked: an `InferenceRequest` as path and JSON body in its dialect.

    chat, completion      one question, answered with a stream
    embeddings, rerank    one question for every few inputs: answers stay small, and one may leave in between
    (de)tokenize          one question

What the server does not take is refused by its name. What it takes and finds wrong, it says itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby, islice
from typing import Any, TypeAlias

from federation.backend import Constraint, InferenceRequest
from federation.errors import BadRequest, Refused
from node.attached.dialect import Dialect, Feature, SchemaStyle

Body: TypeAlias = dict[str, Any]

INPUTS_PER_QUESTION = 32
"""Vectors of 8192 numbers in 20 characters each make 5 MB of JSON then, which takes us 50 ms to read."""

_PARAMS: Mapping[Feature, str] = {
    "choices": "n",
    "prompt_ids": "prompt",
    "required_tool": "tool_choice",
    "named_tool": "tool_choice",
    "json_object": "response_format",
    "json_schema": "response_format",
    "gbnf": "grammar",
}
"""What a client calls it, where that is another name."""

_SAME_ROLE = {"developer": "system"}
"""OpenAI's newer word, which the templates behind these servers do not know."""


@dataclass(frozen=True, slots=True)
class Question:
    """One POST."""

    path: str
    body: Body
    first_input: int = 0
    """Of embeddings and rerank: which of all inputs is the first of `inputs`."""
    inputs: int = 0


def require_no_resume(request: InferenceRequest, dialect: Dialect) -> None:
    """Nothing, if `request` begins anew, or goes on in a way that the server knows.

    Raises:
      Refused: it would go on with an answer, for which the server would have to be told token ids.
    """
    if request.resume is not None:
        raise Refused(
            "resume_mismatch",
            "an attached server cannot go on with an answer that another one began: it takes no token ids",
        )
    if request.is_begun and not dialect.goes_on_with_chats:
        raise Refused("resume_mismatch", f"{dialect.name} may not go on in the last message of a chat")


def text_question(request: InferenceRequest, model: str, dialect: Dialect) -> Question:
    """The question of a chat or a completion. `model`: as the server calls it.

    Raises:
      BadRequest: the server does not take something of it; names the parameter.
    """
    body: Body = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    asked = _sampling(request, dialect)
    if request.choices > 1:
        asked["choices"] = {"n": request.choices}
    if request.ignore_eos:
        asked["ignore_eos"] = {"ignore_eos": True}
    if request.stop:
        body["stop"] = list(request.stop)
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if dialect.reports_progress:
        body["return_progress"] = True
    if request.kind == "chat":
        body |= _messages(request)
        asked |= _logprobs_of_chat(request) | _tools(request, dialect)
        asked |= _constraint(request.constraint, "response_format", dialect)
        path, taken = "/v1/chat/completions", dialect.chat
    else:
        asked |= _completion(request)
        asked |= _constraint(request.constraint, dialect.completion_schema_style, dialect)
        body["prompt"] = request.prompt if isinstance(request.prompt, str) else list(request.prompt)
        if dialect.ends_completions_early and request.max_tokens is None:
            body["max_tokens"] = None
        path, taken = "/v1/completions", dialect.completion
    for feature, values in asked.items():
        if feature not in taken:
            raise _not_taken(feature, request, dialect)
        body |= values
    return Question(path, body)


def vector_questions(request: InferenceRequest, model: str, dialect: Dialect) -> Iterator[Question]:
    """The questions of embeddings or rerank, in the order of the inputs.

    Raises:
      BadRequest: the server does not take something of it; names the parameter.
    """
    if not request.inputs:
        raise BadRequest("input must not be empty", param="input")
    is_rerank = request.kind == "rerank"
    if is_rerank and not dialect.has_rerank:
        raise BadRequest(f"{dialect.name} ranks no documents", param="model")
    if not dialect.takes_input_ids and not all(isinstance(each, str) for each in request.inputs):
        raise BadRequest(f"{dialect.name} embeds text, and no token ids", param="input")
    return _batches(request, model)


def _batches(request: InferenceRequest, model: str) -> Iterator[Question]:
    at = 0
    # Texts and token ids do not mix in one question.
    for _, same in groupby(request.inputs, key=lambda each: isinstance(each, str)):
        while batch := list(islice(same, INPUTS_PER_QUESTION)):
            if request.kind == "rerank":
                body = {"model": model, "query": request.prompt, "documents": batch, "top_n": len(batch)}
                yield Question("/v1/rerank", body, at, len(batch))
            else:
                inputs = [each if isinstance(each, str) else list(each) for each in batch]
                yield Question("/v1/embeddings", {"model": model, "input": inputs}, at, len(batch))
            at += len(batch)


def lookup_question(request: InferenceRequest, model: str, dialect: Dialect) -> Question:
    """The question of tokenize or detokenize.

    Raises:
      BadRequest: the server has no such question, or the prompt is of the wrong type.
    """
    if not dialect.lookup_style:
        raise BadRequest(f"{dialect.name} tells no token ids", param="model")
    is_vllm = dialect.lookup_style == "vllm"
    if request.kind == "detokenize":
        if isinstance(request.prompt, str):
            raise BadRequest("tokens must be a list of token ids", param="tokens")
        return Question("/detokenize", {"model": model, "tokens": list(request.prompt)})
    if not isinstance(request.prompt, str):
        raise BadRequest("content must be text", param="content")
    text, special = ("prompt", "add_special_tokens") if is_vllm else ("content", "add_special")
    return Question("/tokenize", {"model": model, text: request.prompt, special: request.adds_special})


def _not_taken(feature: Feature, request: InferenceRequest, dialect: Dialect) -> BadRequest:
    param = _PARAMS.get(feature, feature)
    kind = "chats" if request.kind == "chat" else "completions"
    return BadRequest(
        f"`{param}`: {dialect.name}, which runs {request.model}, does not take it in {kind}", param=param
    )


def _sampling(request: InferenceRequest, dialect: Dialect) -> dict[Feature, Body]:
    asked: dict[Feature, Body] = {}
    for each in fields(request.sampling):
        value = getattr(request.sampling, each.name)
        if value is None:
            continue
        feature: Feature = each.name  # type: ignore[assignment]  # they are called alike; a test compares them
        if each.name == "logit_bias":
            value = {str(token): bias for token, bias in value.items()}
        asked[feature] = {dialect.renamed.get(each.name, each.name): value}
    return asked


def _messages(request: InferenceRequest) -> Body:
    body: Body = {"messages": [_message(message) for message in request.messages]}
    if request.is_begun:
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return body


def _message(message: Mapping[str, Any]) -> Body:
    role = message.get("role")
    return {**message, "role": _SAME_ROLE.get(role, role) if isinstance(role, str) else role}


def _logprobs_of_chat(request: InferenceRequest) -> dict[Feature, Body]:
    if request.top_logprobs is None:
        return {}
    return {"logprobs": {"logprobs": True, "top_logprobs": request.top_logprobs}}


def may_call(request: InferenceRequest) -> bool:
    """Whether the answer to `request` may be a call."""
    return bool(request.tools) and request.tool_choice != "none"


def must_call(request: InferenceRequest) -> bool:
    """Whether it must be one."""
    return may_call(request) and request.tool_choice != "auto"


def _tools(request: InferenceRequest, dialect: Dialect) -> dict[Feature, Body]:
    if not may_call(request):
        # What the model is not told of, it does not call.
        return {}
    tools = [dict(tool) for tool in request.tools]
    asked: dict[Feature, Body] = {"tools": {"tools": tools}}
    name = request.tool_choice.removeprefix("function:")
    if name != request.tool_choice and dialect.lacks_tool_names:
        named = [tool for tool in tools if tool.get("function", {}).get("name") == name]
        asked["named_tool"] = {"tools": named, "tool_choice": "required"}
    elif name != request.tool_choice:
        asked["named_tool"] = {"tool_choice": {"type": "function", "function": {"name": name}}}
    elif request.tool_choice == "required":
        asked["required_tool"] = {"tool_choice": "required"}
    if not request.allows_parallel_tool_calls:
        asked["parallel_tool_calls"] = {"parallel_tool_calls": False}
    return asked


def _completion(request: InferenceRequest) -> dict[Feature, Body]:
    asked: dict[Feature, Body] = {}
    if not isinstance(request.prompt, str):
        asked["prompt_ids"] = {}
        if request.is_echoed:
            raise BadRequest("`echo`: an attached server cannot tell the text of token ids", param="echo")
    if request.suffix:
        asked["suffix"] = {"suffix": request.suffix}
    if request.top_logprobs is not None:
        asked["logprobs"] = {"logprobs": request.top_logprobs}
    return asked


def _constraint(constraint: Constraint | None, style: SchemaStyle, dialect: Dialect) -> dict[Feature, Body]:
    if constraint is None:
        return {}
    if constraint.kind == "gbnf":
        return {"gbnf": {"grammar": constraint.text}}
    if constraint.kind == "json_object":
        says_as_schema = style == "json_schema" or dialect.lacks_plain_objects
        said = _schema({"type": "object"}, style) if says_as_schema else _format({"type": "json_object"})
        return {"json_object": said}
    try:
        schema = json.loads(constraint.text)
    except (ValueError, RecursionError) as error:
        # From a peer: our own API sends none that it could not read.
        raise BadRequest("`response_format`: its schema is not JSON", param="response_format") from error
    return {"json_schema": _schema(schema, style)}


def _schema(schema: object, style: SchemaStyle) -> Body:
    if style == "json_schema":
        return {"json_schema": schema}
    return _format(
        {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    )


def _format(response_format: Body) -> Body:
    return {"response_format": response_format}


def encode_body(body: Sequence[Any] | Body) -> bytes:
    """`body` as JSON in UTF-8."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
