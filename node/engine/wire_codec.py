"""The messages of `wire.py` as maps, and back.

A frame carries neither classes nor tuples, and its keys are text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from federation.backend import Delivered, Resume, TokenLogprob
from node.engine.wire import (
    Accepted,
    Cancel,
    Credit,
    Detokenize,
    DetokenizeRequest,
    Embed,
    EmbedRequest,
    EngineParams,
    FilledSampling,
    Finished,
    FromChild,
    Generate,
    GenerateRequest,
    Load,
    Loaded,
    LoadFailed,
    Loading,
    ModelFacts,
    Piece,
    Ping,
    Pong,
    Prefilled,
    PromptPart,
    Ready,
    Refused,
    ToChild,
    Tokenize,
    TokenizeRequest,
)
from p2p.errors import BadFrame

_AS_THEY_ARE = {int, str, bytes}

_KINDS: dict[str, type[ToChild | FromChild]] = {
    kind.__name__: kind
    for kind in (
        *(Load, Generate, Embed, Tokenize, Detokenize, Credit, Cancel, Ping),
        *(Loading, Loaded, Ready, LoadFailed, Accepted, Refused, Prefilled, Piece, Finished, Pong),
    )
}


def to_map(message: ToChild | FromChild) -> dict[str, Any]:
    """`message` as a map that msgpack can carry."""
    return {"kind": type(message).__name__, **_plain(message)}


def _plain(value: Any) -> Any:  # noqa: ANN401 (any field of a message)
    """`value` without classes, and without maps whose keys are no text. Long lists of ids stay as they are:
    `dataclasses.asdict` would copy each of a million."""
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, tuple) and not set(map(type, value)) <= _AS_THEY_ARE:
        return [_plain(each) for each in value]
    return value


def to_child(message: Mapping[str, Any]) -> ToChild:
    """A message to the child, out of its map.

    Raises:
      BadFrame: it is none.
    """
    parsed = _parse(message)
    if not isinstance(parsed, ToChild):
        raise BadFrame(f"{type(parsed).__name__} is not said to an engine")
    return parsed


def from_child(message: Mapping[str, Any]) -> FromChild:
    """A message from the child, out of its map.

    Raises:
      BadFrame: it is none.
    """
    parsed = _parse(message)
    if not isinstance(parsed, FromChild):
        raise BadFrame(f"{type(parsed).__name__} is not said by an engine")
    return parsed


def _parse(message: Mapping[str, Any]) -> ToChild | FromChild:
    fields = dict(message)
    kind = fields.pop("kind", None)
    try:
        read = _READERS.get(kind)
        return _KINDS[kind](**(fields if read is None else read(fields)))
    except (KeyError, TypeError, ValueError) as error:
        raise BadFrame(f"not a message of the engine: kind {kind!r}") from error


def _load(fields: dict[str, Any]) -> dict[str, Any]:
    return {"params": EngineParams(**fields["params"])}


def _loaded(fields: dict[str, Any]) -> dict[str, Any]:
    facts = fields["facts"]
    lists = {name: tuple(facts[name]) for name in ("special_tokens", "special_ids", "capabilities")}
    return {**fields, "facts": ModelFacts(**{**facts, **lists})}


def _generate(fields: dict[str, Any]) -> dict[str, Any]:
    asked = fields["request"]
    biases = dict(map(tuple, asked["sampling"]["logit_bias"]))
    resume = asked["resume"]
    request = GenerateRequest(
        **{
            **asked,
            "prompt": tuple(map(_prompt_part, asked["prompt"])),
            "sampling": FilledSampling(**{**asked["sampling"], "logit_bias": biases}),
            "stop": tuple(asked["stop"]),
            "shown": tuple(asked["shown"]),
            "resume": None if resume is None else _resume(resume),
        }
    )
    return {**fields, "request": request}


def _prompt_part(part: int | dict[str, Any]) -> PromptPart | int:
    return part if isinstance(part, int) else PromptPart(**part)


def _resume(fields: Mapping[str, Any]) -> Resume:
    choices = (Delivered(tuple(each["token_ids"]), each["finish_reason"]) for each in fields["choices"])
    return Resume(**{**fields, "choices": tuple(choices)})


def _embed(fields: dict[str, Any]) -> dict[str, Any]:
    query = fields["request"]["query"]
    inputs = tuple(
        tuple(each) if isinstance(each, list) else PromptPart(**each) for each in fields["request"]["inputs"]
    )
    return {**fields, "request": EmbedRequest(inputs, None if query is None else PromptPart(**query))}


def _tokenize(fields: dict[str, Any]) -> dict[str, Any]:
    asked = fields["request"]
    return {**fields, "request": TokenizeRequest(**{**asked, "part": PromptPart(**asked["part"])})}


def _detokenize(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "request": DetokenizeRequest(tuple(fields["request"]["token_ids"]))}


def _accepted(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "resumed": tuple(fields["resumed"])}


def _piece(fields: dict[str, Any]) -> dict[str, Any]:
    logprobs = tuple(
        TokenLogprob(each["token"], each["logprob"], tuple(map(tuple, each["top"])))
        for each in fields["logprobs"]
    )
    return {**fields, "token_ids": tuple(fields["token_ids"]), "logprobs": logprobs}


def _finished(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "reasons": tuple(fields["reasons"])}


_READERS: dict[str | None, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "Load": _load,
    "Loaded": _loaded,
    "Generate": _generate,
    "Embed": _embed,
    "Tokenize": _tokenize,
    "Detokenize": _detokenize,
    "Accepted": _accepted,
    "Piece": _piece,
    "Finished": _finished,
}
"""What a frame cannot carry as it is: classes, and tuples, which become lists on the way."""
