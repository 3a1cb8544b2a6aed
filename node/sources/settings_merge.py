"""A gallery's base config and what is laid over it, as LocalAI lays it. Pure.

Maps are merged key by key, all the way down; anything else, a list or an empty value too, takes the place of
what was there (mergo's `WithOverride`, with which LocalAI does it).

Templates for LocalAI's own prompts and names of files are left out: here the model's own template is used,
and files are where the store puts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`; both stay as they are."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping):
            merged[key] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def settings_text(settings: Mapping[str, Any]) -> str:
    """`settings` as YAML, the same text for the same settings, without names of files; empty for none."""
    kept = {key: value for key, value in settings.items() if key not in ("mmproj", "download_files")}
    parameters = kept.get("parameters")
    if isinstance(parameters, Mapping):
        kept["parameters"] = {key: value for key, value in parameters.items() if key != "model"}
    kept = {key: value for key, value in kept.items() if value not in ({}, None)}
    if not kept:
        return ""
    text: str = yaml.safe_dump(kept, sort_keys=True, allow_unicode=True, default_flow_style=False, width=110)
    return text
