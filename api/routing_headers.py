"""How a client wants its request routed: the `x-localai-*` headers of a request (`_PARAMETERS`).

All may be left out. What is wrong in one is a 400 that names it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar, get_args

from api.access import offered_key
from api.errors import HttpError
from federation.backend import InferenceRequest, PolicyName, Routing
from federation.request_limits import TIMEOUT_MAX

_Value = TypeVar("_Value")

_NODES_MAX = 64
"""Names in one header: more nodes than a home has, and few enough to look at for every candidate."""
_NAME_LENGTH_MAX = 64
"""Characters of one: what a node's name may have."""
_TENANT_LENGTH = 16
"""Hex digits of an API key's hash: enough to tell keys apart, and no way back to the key."""

_SECONDS = re.compile(r"[0-9]{1,9}")

_POLICIES: Mapping[str, PolicyName] = {name: name for name in get_args(PolicyName)}
_PRIORITIES = {"low": -1, "normal": 0, "high": 1}
_RESUMES_BY_TEXT = {"text": True}


def _parameter(name: str, description: str, **schema: object) -> dict[str, object]:
    return {"in": "header", "name": name, "description": description, "schema": schema}


_PARAMETERS = (
    _parameter("x-localai-only", "Which nodes may be asked: names or labels, with commas.", type="string"),
    _parameter("x-localai-prefer", "Which are asked first; the same.", type="string"),
    _parameter("x-localai-avoid", "Which are asked last; the same.", type="string"),
    _parameter("x-localai-policy", "How one is chosen; the node's own, if not given.", enum=list(_POLICIES)),
    _parameter("x-localai-priority", "Who goes first where requests wait.", enum=list(_PRIORITIES)),
    _parameter(
        "x-localai-timeout",
        "Seconds until nobody wants the answer any more; 600, if not given.",
        type="integer",
        minimum=1,
        maximum=int(TIMEOUT_MAX),
    ),
    _parameter(
        "x-localai-resume",
        "Another node may go on after the text of an answer that has no token ids.",
        enum=list(_RESUMES_BY_TEXT),
    ),
)

ROUTED: dict[str, object] = {"parameters": list(_PARAMETERS)}
"""What OpenAPI says of an endpoint whose requests are routed."""


def with_routing(asked: InferenceRequest, headers: Mapping[str, str]) -> InferenceRequest:
    """`asked`, routed as `headers` (by lower-case name) want it.

    Raises:
      HttpError: 400, one of them says nothing that can be done.
    """
    routing = Routing(
        policy=_word(headers, "x-localai-policy", _POLICIES, None),
        only=_nodes(headers, "x-localai-only"),
        prefer=_nodes(headers, "x-localai-prefer"),
        avoid=_nodes(headers, "x-localai-avoid"),
        tenant=_tenant(headers),
        resumes_by_text=_word(headers, "x-localai-resume", _RESUMES_BY_TEXT, default=False),
    )
    return replace(
        asked,
        routing=routing,
        priority=_word(headers, "x-localai-priority", _PRIORITIES, 0),
        timeout=_seconds(headers, "x-localai-timeout", asked.timeout),
    )


def _word(headers: Mapping[str, str], name: str, words: Mapping[str, _Value], default: _Value) -> _Value:
    said = headers.get(name)
    if said is None:
        return default
    try:
        return words[said.strip().lower()]
    except KeyError:
        raise _bad(name, f"it must be {' or '.join(words)}") from None


def _seconds(headers: Mapping[str, str], name: str, default: float) -> float:
    said = headers.get(name)
    if said is None:
        return default
    if not _SECONDS.fullmatch(said.strip()) or not 1 <= int(said) <= TIMEOUT_MAX:
        raise _bad(name, f"it must be whole seconds, from 1 to {TIMEOUT_MAX:g}")
    return float(said)


def _nodes(headers: Mapping[str, str], name: str) -> tuple[str, ...]:
    said = [each.strip() for each in headers.get(name, "").split(",")]
    found = tuple(dict.fromkeys(each for each in said if each))
    if len(found) > _NODES_MAX or any(len(each) > _NAME_LENGTH_MAX for each in found):
        raise _bad(name, f"it may name {_NODES_MAX} nodes or labels, of {_NAME_LENGTH_MAX} characters each")
    return found


def _tenant(headers: Mapping[str, str]) -> str:
    key = offered_key(headers)
    return hashlib.sha256(key.encode()).hexdigest()[:_TENANT_LENGTH] if key else ""


def _bad(name: str, why: str) -> HttpError:
    return HttpError(400, f"the header {name} is wrong: {why}", param=name)
