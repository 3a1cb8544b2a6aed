"""`localai-node models ...`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from node.commands.advice import available, suggest
from node.commands.file_path import path_for_a_node
from node.commands.place import place, placements, unplace
from node.commands.pull import cancel, jobs, pull
from node.config import home_option
from node.control import ask
from node.errors import NotRunning
from node.home import Home
from node.models.errors import UnknownModel
from node.status_table import model_state, node_names, printable, wanted_text

if TYPE_CHECKING:
    from node.models.catalog import Catalog

_LOAD_TIMEOUT = 30.0
"""Seconds to look at a file and take it over; it is loaded and hashed after that, in the background."""
_REMOVE_TIMEOUT = 600.0
"""Seconds: answers that run end first, and the longest are some thousand tokens."""
_COPY_TIMEOUT = 3600.0
"""Seconds: the largest models are some hundred gigabytes, a disk copies about one in five seconds."""


@click.group(epilog="Example: localai-node models add ~/models/qwen.gguf")
def models() -> None:
    """The models of this node, and of the swarm."""


for _command in (suggest, available, pull, jobs, cancel, place, unplace, placements):
    models.add_command(_command)


@models.command(epilog="Example: localai-node models ls")
@home_option
def ls(*, home: Home) -> None:
    """Every model of the swarm, and the nodes that have it; without a running node, those of this home."""
    try:
        swarm = ask(home, "status")
    except NotRunning as error:
        click.echo(f"localai-node: {error}; these are the models of the home:", err=True)
        for model in _catalog(home).definitions.values():
            click.echo(f"{model.name}  {model.problem}" if model.problem else model.name)
        return
    holders: dict[str, list[str]] = {}
    names = node_names(swarm["nodes"])
    for node in swarm["nodes"]:
        for model in node["models"] if node["state"] != "offline" else ():
            placed = ", placed" if model.get("is_placed") else ""
            holders.setdefault(model["name"], []).append(
                f"{names[node['id']]} ({model_state(model)}{placed})"
            )
    placements = {placement["model"]: placement for placement in swarm["placements"]}
    if not holders and not placements:
        click.echo("no models yet; get one with `localai-node models pull demo`", err=True)
    for name in sorted(holders.keys() | placements.keys()):
        parts = [name, ", ".join(holders.get(name, ["on no node that is here"]))]
        if (placement := placements.get(name)) is not None:
            parts.append(f"wanted {wanted_text(placement, names)}, held by {len(placement['held'])}")
        click.echo(printable("  ".join(parts)))


@models.command(epilog="Example: localai-node models add ~/models/qwen.gguf")
@click.argument("file", metavar="FILE|demo")
@click.option("--copy", is_flag=True, help="Copy the file into the home instead of using it where it is.")
@home_option
def add(*, home: Home, file: str, copy: bool) -> None:
    """Serve a GGUF file from now on. A running node loads it without a restart."""
    source = file if file == "demo" else path_for_a_node(file)
    timeout = _COPY_TIMEOUT if copy else _LOAD_TIMEOUT
    try:
        name = ask(home, "models.add", timeout=timeout, source=source, copy=copy)
        click.echo(f"{name} is served from now on; `localai-node status` shows how far it is loaded")
    except NotRunning:
        with home.lock():
            name = _catalog(home).add(source, copy=copy).name
        click.echo(f"{name} will be served when this node starts")


@models.command(epilog="Example: localai-node models rm qwen")
@click.argument("name")
@home_option
def rm(*, home: Home, name: str) -> None:
    """Stop serving a model. Deletes what lies in the home's models folder, and no file elsewhere."""
    try:
        removed = ask(home, "models.rm", timeout=_REMOVE_TIMEOUT, name=name)
        deleted = removed["deleted"]
        if removed["comes_back"]:
            click.echo(
                f"the swarm wants {name} here, so it comes back: `localai-node models unplace {name}` first,"
                " to be rid of it",
                err=True,
            )
    except NotRunning:
        from ledger.records import ModelName

        catalog = _catalog(home)
        if name not in catalog.definitions:
            # Before the lock, which would make a home of a mistyped path.
            raise UnknownModel(f"the home {home.path} has no model {name}") from None
        with home.lock():
            deleted = [str(path) for path in catalog.remove(ModelName(name))]
    click.echo("\n".join([f"{name} is not served any more", *(f"deleted {path}" for path in deleted)]))


def _catalog(home: Home) -> Catalog:
    """The models of a home in which no node runs."""
    import psutil

    from node.models.catalog import Catalog

    catalog = Catalog(home.models, memory_bytes=psutil.virtual_memory().total)
    catalog.read()
    return catalog
