"""`localai-node models suggest` and `models available`: which models there are, and which to take."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from node.config import gallery_option, home_option
from node.control import ask
from node.errors import NotRunning
from node.home import Home
from node.status_table import printable
from node.suggest.advice_text import render_advice, render_models

_GALLERY_TIMEOUT = 120.0
"""Seconds: a gallery's index has some megabytes, and a slow line takes a minute for them."""


@click.command(epilog="Example: localai-node models suggest --for embeddings")
@click.option(
    "--for",
    "purpose",
    type=click.Choice(["chat", "embeddings", "rerank"]),
    default="chat",
    show_default=True,
    help="What the model shall do.",
)
@click.option(
    "--all", "is_all", is_flag=True, help="Show all that fit, and why the others are not suggested."
)
@click.option("--json", "as_json", is_flag=True, help="Print the same as JSON.")
@gallery_option
@home_option
def suggest(*, home: Home, purpose: str, is_all: bool, as_json: bool, gallery: Sequence[str]) -> None:
    """Which models of the galleries fit this machine and the swarm, how fast they would be, and why.

    Speeds are estimated from what was measured: nothing measured, no number.
    """
    advice = _answer(home, gallery, "suggest", purpose=purpose, is_all=is_all)
    click.echo(json.dumps(advice, indent=2) if as_json else render_advice(advice))


@click.command(epilog="Example: localai-node models available qwen 4b")
@click.argument("text", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print the same as JSON.")
@gallery_option
@home_option
def available(*, home: Home, text: Sequence[str], as_json: bool, gallery: Sequence[str]) -> None:
    """The models of the galleries that have all words of TEXT, and who has them."""
    found = _answer(home, gallery, "available", text=" ".join(text))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif found["models"]:
        click.echo(render_models(found))
    else:
        click.echo("no gallery has such a model", err=True)


def _answer(home: Home, gallery: Sequence[str], question: str, **arguments: Any) -> Mapping[str, Any]:  # noqa: ANN401
    """What the adviser of the running node says, or without one, what is true of this machine alone."""
    answer: Mapping[str, Any]
    try:
        answer = ask(
            home,
            f"models.{question}",
            timeout=_GALLERY_TIMEOUT,
            galleries=_for_a_node(gallery),
            **arguments,
        )
    except NotRunning as error:
        click.echo(f"localai-node: {error}; this is about this machine alone:", err=True)
        answer = _answer_here(home, gallery, question, arguments)
    for warning in answer["warnings"]:
        click.echo(printable(f"warning: {warning}"), err=True)
    return answer


def _for_a_node(gallery: Sequence[str]) -> list[str]:
    """What to look into instead of the node's own galleries: only what was given with the command. Files by
    their whole paths."""
    source = click.get_current_context().get_parameter_source("gallery")
    if source is not ParameterSource.COMMANDLINE:
        return []
    from node.sources.gallery_source import GallerySource

    sources = [(text, GallerySource.parse(text)) for text in gallery]
    return [f"{each.name}={each.index}" if isinstance(each.index, Path) else text for text, each in sources]


def _answer_here(
    home: Home, gallery: Sequence[str], question: str, arguments: Mapping[str, Any]
) -> Mapping[str, Any]:
    from functools import partial

    from node.run_trio import run_trio
    from node.sources.source_settings import LOCALAI_GALLERY
    from node.suggest.adviser import Adviser
    from node.suggest.look import look_here

    answers: list[Mapping[str, Any]] = []

    async def main() -> None:
        adviser = Adviser(gallery or [LOCALAI_GALLERY], cache, partial(look_here, home))
        asked = adviser.suggest if question == "suggest" else adviser.available
        answers.append(await asked(**arguments))

    with tempfile.TemporaryDirectory() as folder:
        # Copies are kept in a home that is there; a mistyped one is not made for them.
        cache = home.galleries if home.path.is_dir() else Path(folder)
        run_trio(main)
    return answers[0]
