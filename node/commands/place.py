"""`localai-node models place ...`: what the swarm is to hold where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from node.config import home_option
from node.control import ask
from node.home import Home
from node.status_table import node_names, placement_problems, printable, wanted_text


@click.command(epilog="Example: localai-node models place qwen --replicas 2")
@click.argument("name")
@click.option("--replicas", type=click.IntRange(min=1), metavar="N", help="Copies, on whichever nodes.")
@click.option("--on", multiple=True, metavar="NODE", help="A node by its name, label or peer id. Repeatable.")
@click.option("--everywhere", is_flag=True, help="Every node that takes models in and has room.")
@home_option
def place(*, home: Home, name: str, replicas: int | None, on: Sequence[str], everywhere: bool) -> None:
    """Have the swarm hold a model, and get it to where it is missing. It must be on some node already.

    Nodes take models in where their owner started them with --accept-models.
    """
    shown = ask(home, "models.place", name=name, replicas=replicas or 0, on=list(on), everywhere=everywhere)
    for placement in shown["placements"]:
        click.echo(printable(_line(placement, shown["nodes"])))
    for problem in placement_problems(shown):
        click.echo(f"warning: {printable(problem)}", err=True)
        if not any(node["models_size_max"] for node in shown["nodes"]):
            click.echo(
                "no node takes models in: start those that may with `localai-node start --accept-models`",
                err=True,
            )


@click.command(epilog="Example: localai-node models unplace qwen")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Even if no copy is left.")
@home_option
def unplace(*, home: Home, name: str, yes: bool) -> None:
    """Take back that the swarm is to hold a model. Deletes what the swarm put on nodes, and nothing else."""
    copies = ask(home, "models.unplace", name=name, yes=yes)
    click.echo(f"{name} is not wanted any more")
    if copies["deleted"]:
        click.echo(printable(f"deleted on {', '.join(copies['deleted'])}, once nothing runs on it"))
    if copies["kept"]:
        click.echo(printable(f"stays on {', '.join(copies['kept'])}, whose owners put it there"))


@click.command(epilog="Example: localai-node models placements")
@home_option
def placements(*, home: Home) -> None:
    """What is wanted where, who is to hold it and who does, and what cannot be done."""
    shown = ask(home, "models.placements")
    if not shown["placements"]:
        click.echo("nothing is wanted anywhere; say so with `localai-node models place NAME`", err=True)
    for placement in shown["placements"]:
        click.echo(printable(_line(placement, shown["nodes"])))
    for problem in placement_problems(shown):
        click.echo(f"warning: {printable(problem)}")


def _line(placement: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> str:
    """`qwen  wanted in 2 copies  planned: attic, cellar (not there yet)  held: attic`."""
    names = node_names(nodes)
    offline = {node["id"] for node in nodes if node["state"] == "offline"}

    def told(peers: Sequence[str], note: str, of: set[str]) -> str:
        said = [
            f"{names.get(peer, peer)} ({note})" if peer in of else names.get(peer, peer) for peer in peers
        ]
        return ", ".join(said) or "nobody"

    missing = set(placement["planned"]) - set(placement["held"])
    return "  ".join(
        (
            placement["model"],
            f"wanted {wanted_text(placement, names)}",
            f"planned: {told(placement['planned'], 'not there yet', missing)}",
            f"held: {told(placement['held'], 'offline', offline)}",
        )
    )
