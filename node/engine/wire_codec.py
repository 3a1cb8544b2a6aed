"""The messages of `wire.py` as maps, and back.

A frame carries neither classes nor tuples, and its keys are text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, get_args

from federation.backend import Delivered, Resume, TokenLogprob
from node.engine.wire import (
    DetokenizeRequest,
    EmbedRequest,
    EngineParams,
    FilledSampling,
    FromChild,
    GenerateRequest,
    ModelFacts,
    PromptPart,
    ToChild,
    TokenizeRequest,
)
from p2p.errors import BadFrame

_Message = TypeVar("_Message")

_AS_THEY_ARE = {int, str, bytes, float, bool, type(None)}

_TO_CHILD: Mapping[Any, type[ToChild]] = {kind.__name__: kind for kind in get_args(ToChild)}
_FROM_CHILD: Mapping[Any, type[FromChild]] = {kind.__name__: kind for kind in get_args(FromChild)}


def to_map(message: ToChild | FromChild) -> dict[str, Any]:
    """`message` as a map that msgpack can carry."""
    return {"kind": type(message).__name__, **_plain(message)}


def _plain(value: Any) -> Any:  # noqa: ANN401 (any field of a message)
    """`value` without classes, and without maps whose keys are no text. Long lists of ids stay as they are:
    `dataclasses.asdict` would copy each of a million."""
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if kind is tuple:
        return value if _AS_THEY_ARE.issuperset(map(type, value)) else [_plain(each) for each in value]
    if is_dataclass(kind):
        return {name: _plain(getattr(value, name)) for name in _field_names(kind)}
    return list(value.items()) if isinstance(value, Mapping) else value


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))


def to_child(message: Mapping[str, Any]) -> ToChild:
    """A message to the child, out of its map.

    Raises:
      BadFrame: it is none.
    """
    return _parse(message, _TO_CHILD)


def from_child(message: Mapping[str, Any]) -> FromChild:
    """A message from the child, out of its map.

    Raises:
      BadFrame: it is none.
    """
    return _parse(message, _FROM_CHILD)


def _parse(message: Mapping[str, Any], kinds: Mapping[Any, type[_Message]]) -> _Message:
    fields = dict(message)
    kind = fields.pop("kind", None)
    try:
        read = _READERS.get(kind)
        return kinds[kind](**(fields if read is None else read(fields)))
    except (KeyError, TypeError, ValueError) as error:
        raise BadFrame(f"not a message that this side is sent: kind {kind!r}") from error


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
