"""The README says nothing that is not so: each command and flag in it exists, and so does each file."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from node.cli import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def invocations() -> Iterator[list[str]]:
    """The words after each `localai-node` in code, one list per invocation."""
    code = re.findall(r"```\n(.*?)```", README, re.DOTALL) + re.findall(r"`([^`\n]+)`", README)
    for text in code:
        for match in re.finditer(r"localai-node ([^\n`)]+)", text):
            yield shlex.split(match[1], comments=True)


@pytest.mark.parametrize("words", list(invocations()), ids=" ".join)
def test_a_command_in_the_readme_exists_with_its_flags(words: list[str]) -> None:
    context = click.Context(cli)
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        name, *words = words
        found = command.get_command(context, name)
        assert found is not None, f"there is no command {name}"
        command = found
    flags = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in words if word.startswith("-") and word not in {*flags, "--help"}]
    assert not unknown


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)\)", README))
def test_a_link_in_the_readme_leads_somewhere(target: str) -> None:
    assert (ROOT / target).exists()


@pytest.mark.parametrize("command", re.findall(r"^make (\w+)$", README, re.MULTILINE))
def test_a_make_target_in_the_readme_exists(command: str) -> None:
    assert re.search(rf"^{command}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_readme_has_each_header_of_ours_and_no_other() -> None:
    ours = re.compile(r"x-localai-[a-z-]*[a-z]")
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "api").glob("*.py"))
    assert set(ours.findall(README)) == set(ours.findall(sources))


def test_the_readme_s_words_are_the_architecture_s() -> None:
    rows = re.findall(r"^\| (\w+) \| ", README.split("## Words")[1].split("##")[0], re.MULTILINE)
    architecture = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert [word for word in rows if word != "word" and word not in architecture] == []
