"""The settings of a model from a source: a base, and what is laid over it, as LocalAI lays it. Pure.

Maps are merged key by key, all the way down; anything else, a list or an empty value too, takes the place of
what was there (mergo's `WithOverride`, with which LocalAI does it).

Names of files are left out: files are where the store puts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from node.models.errors import BadModelYaml
from node.models.model_yaml import YAML_SIZE_MAX, parse_model_yaml
from node.models.yaml_writer import write_yaml
from node.sources.errors import UnsuitableModel

SETTINGS_SIZE_MAX = YAML_SIZE_MAX - 4096
"""Bytes of their YAML. The names of the model and of its files, which come on top, have 255 each at most."""


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


def checked_settings(wanted: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """`wanted` without names of files; `source` is whose they are. Takes half a second for the largest: in a
    thread.

    What is wrong with them is found here, and not once the model has come.

    Raises:
      UnsuitableModel: this program cannot do what they say; says why.
    """
    kept = {key: value for key, value in wanted.items() if key not in ("mmproj", "download_files")}
    parameters = kept.get("parameters")
    if isinstance(parameters, Mapping):
        kept["parameters"] = {key: value for key, value in parameters.items() if key != "model"}
    kept = {key: value for key, value in kept.items() if value not in ({}, None)}
    text = write_yaml(kept)
    if len(text) > SETTINGS_SIZE_MAX:
        raise UnsuitableModel(
            f"the settings of {source} take {len(text)} bytes; {SETTINGS_SIZE_MAX} are allowed"
        )
    try:
        parse_model_yaml(text, source=source)
    except BadModelYaml as error:
        raise UnsuitableModel(str(error)) from error
    return kept
