"""Aliases: other names for models, with wishes of the swarm's admins for requests that use them.

Wishes are the alias's further fields, which a client's own add to:

    policy           a name; the client's own goes first
    only             nodes, by name or label; a client's own list must be met too
    prefer, avoid    the same; either list will do

An alias names a model and never another alias, so there are no circles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, get_args

from federation.backend import PolicyName, Routing
from federation.model_reference import ModelReference
from ledger.records import AliasRecord, ModelName

Aliases: TypeAlias = Mapping[ModelName, AliasRecord]
"""By the alias."""

_POLICIES: Mapping[str, PolicyName] = {name: name for name in get_args(PolicyName)}


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a request means, once its model's name was looked up."""

    reference: ModelReference
    routing: Routing
    only: tuple[tuple[str, ...], ...]
    """Lists of nodes, by name or label: who serves it is in each of them."""


def resolve(model: ModelName, routing: Routing, aliases: Aliases) -> Resolved:
    """What a request for `model` means that is to be routed as `routing` says.

    An alias goes before a model of the same name: an admin has said so.
    """
    asked = ModelReference.parse(model)
    own = (routing.only,) if routing.only else ()
    record = aliases.get(asked.name)
    if record is None:
        return Resolved(asked, routing, own)
    meant = ModelReference.parse(record.model)
    wishes = record.extra
    both = replace(
        routing,
        policy=routing.policy or _POLICIES.get(str(wishes.get("policy", ""))),
        prefer=(*routing.prefer, *_names(wishes, "prefer")),
        avoid=(*routing.avoid, *_names(wishes, "avoid")),
    )
    allowed = _names(wishes, "only")
    # A client that names a file by its hash through an alias means that file.
    reference = ModelReference(meant.name, asked.sha256 or meant.sha256)
    return Resolved(reference, both, (*own, allowed) if allowed else own)


def _names(wishes: Mapping[str, Any], field: str) -> tuple[str, ...]:
    """The list in `field`; none where another version put something else there."""
    value = wishes.get(field)
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()
