"""Aliases: other names for models, with wishes of the swarm's admins for requests that use them.

Wishes are the alias's further fields, which a client's own add to:

    policy           a name; the client's own goes first
    only             nodes, by name or label; a client's own list must be met too
    prefer, avoid    the same; either list will do

An alias names a model and never another alias, so there are no circles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias, get_args

from federation.backend import InferenceRequest, PolicyName
from federation.model_reference import ModelReference
from ledger.records import AliasRecord, ModelName

Aliases: TypeAlias = Mapping[ModelName, AliasRecord]
"""By the alias."""

_POLICIES: Mapping[str, PolicyName] = {name: name for name in get_args(PolicyName)}


def resolve(request: InferenceRequest, aliases: Aliases) -> InferenceRequest:
    """`request` by the name of the model that it means.

    An alias goes before a model of the same name: an admin has said so.
    """
    asked = ModelReference.parse(request.model)
    record = aliases.get(asked.name)
    if record is None:
        return request
    meant, wishes, routing = ModelReference.parse(record.model), record.extra, request.routing
    # A client that names a file by its hash through an alias means that file.
    sha256 = asked.sha256 or meant.sha256
    return replace(
        request,
        model=ModelReference(meant.name, sha256).text,
        routing=replace(
            routing,
            policy=routing.policy or _POLICIES.get(str(wishes.get("policy", ""))),
            only_by_alias=_names(wishes, "only"),
            prefer=(*routing.prefer, *_names(wishes, "prefer")),
            avoid=(*routing.avoid, *_names(wishes, "avoid")),
        ),
    )


def _names(wishes: Mapping[str, Any], field: str) -> tuple[str, ...]:
    """The list in `field`; none where another version put something else there."""
    value = wishes.get(field)
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()
