"""Settings as YAML that reads back as what was written, by people as well."""

from __future__ import annotations

import re
from collections.abc import Mapping

import yaml

_BREAKS = re.compile("[\x85\u2028\u2029]")
"""Line ends to YAML, which `yaml` writes as they are and reads as others; between quotes it escapes them."""


class _Writer(yaml.SafeDumper):
    """`yaml`'s own, but for that."""


def _represent_text(writer: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = '"' if _BREAKS.search(value) else None
    return writer.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Writer.add_representer(str, _represent_text)


def write_yaml(document: Mapping[str, object]) -> bytes:
    """`document`, in its order."""
    text: str = yaml.dump(dict(document), Dumper=_Writer, allow_unicode=True, sort_keys=False)
    return text.encode()
