from __future__ import annotations

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from node.models.yaml_writer import write_yaml

unhurried = settings(deadline=None)


@unhurried
@given(st.text(st.characters(codec="utf-8")))
@example("a line \x85 and \u2028 more \u2029")
@example("yes")
@example("1e3")
def test_what_is_written_reads_back(text: str) -> None:
    assert yaml.safe_load(write_yaml({"template": {"chat": text}})) == {"template": {"chat": text}}


def test_people_can_read_it() -> None:
    assert write_yaml({"name": "é中", "a": 1}) == "name: é中\na: 1\n".encode()
