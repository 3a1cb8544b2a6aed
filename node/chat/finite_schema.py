"""Whether any finite value meets a JSON schema: recursion that never ends leaves none.

    {"properties": {"next": {"$ref": "#"}}}                              met by {}
    {"properties": {"next": {"$ref": "#"}}, "required": ["next"]}        met by nothing

llguidance compiles both, and a model held to the second writes until its length is over.

A least fixed point: a reference counts once what it points to does, with those that
counted before. Where something is not understood the answer is yes: what is wrong with
it, llguidance says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

ENDLESS = "refers to itself without end: no finite answer could meet it"
"""What to say of one that none meets, without a subject."""

_ROUNDS_MAX = 8
"""Each takes up to some 50 ms for the largest schema that is let in. Where more are needed the answer is yes:
people's schemas need two or three, because definitions stand in one order or the other."""


def has_finite_value(schema: Mapping[str, Any]) -> bool:
    """Whether recursion in `schema` can end. No deeper than what `json_values.py` lets through."""
    # Definitions stand behind what uses them, or use each other in that order: so the last come first.
    references = list(dict.fromkeys(_references(schema)))[::-1]
    unsettled = {each: _target(schema, each) for each in references}
    settled: set[str] = set()
    for _ in range(_ROUNDS_MAX):
        found = [each for each, target in unsettled.items() if _is_finite(target, settled)]
        settled.update(found)
        if not found:
            return _is_finite(schema, settled)
        for each in found:
            del unsettled[each]
    return True


def _references(value: object) -> Iterator[str]:
    """Every reference within the schema. Those to other documents are nobody's to follow."""
    match value:
        case Mapping():
            reference = value.get("$ref")
            if isinstance(reference, str) and reference.startswith("#"):
                yield reference
            for item in value.values():
                yield from _references(item)
        case list() | tuple():
            for item in value:
                yield from _references(item)


def _target(schema: object, reference: str) -> object:
    """What `reference` points to; None if there is nothing."""
    found = schema
    for step in reference.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping):
            found = found.get(name)
        elif isinstance(found, list) and name.isdecimal() and int(name[:9]) < len(found):
            found = found[int(name[:9])]
        else:
            return None
    return found


def _is_finite(schema: object, settled: Collection[str]) -> bool:
    if not isinstance(schema, Mapping):
        return True
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#") and reference not in settled:
        return False
    if "const" in schema or "enum" in schema:
        return True
    for name in ("anyOf", "oneOf"):
        ways = _list(schema, name)
        if ways and not any(_is_finite(each, settled) for each in ways):
            return False
    parts = [*_list(schema, "allOf"), *_required_properties(schema), *_required_items(schema)]
    return all(_is_finite(each, settled) for each in parts)


def _required_properties(schema: Mapping[str, Any]) -> list[object]:
    properties = schema.get("properties")
    if schema.get("type") not in ("object", ["object"]) or not isinstance(properties, Mapping):
        return []
    return [
        properties[name] for name in _list(schema, "required") if isinstance(name, str) and name in properties
    ]


def _required_items(schema: Mapping[str, Any]) -> list[object]:
    count = schema.get("minItems")
    if schema.get("type") not in ("array", ["array"]) or not isinstance(count, int) or count < 1:
        return []
    first = _list(schema, "prefixItems")[:count]
    return [*first, schema.get("items")] if count > len(first) else first


def _list(schema: Mapping[str, Any], name: str) -> list[Any]:
    value = schema.get(name)
    return value if isinstance(value, list) else []
