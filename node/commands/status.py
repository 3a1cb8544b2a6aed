"""`localai-node status`."""

from __future__ import annotations

import json
import time

import click

from node.config import home_option
from node.control import ask
from node.home import Home
from node.status_table import render_status

_WATCH_INTERVAL = 1.0
"""Seconds: a person cannot read faster, and the node answers from memory."""


@click.command(epilog="Example: localai-node status --watch")
@click.option("--json", "as_json", is_flag=True, help="Print what /api/swarm returns.")
@click.option("--watch", is_flag=True, help="Print it again every second, until Ctrl-C.")
@home_option
def status(*, home: Home, as_json: bool, watch: bool) -> None:
    """Nodes, models and load, as the node running in this home sees them."""
    while True:
        swarm = ask(home, "status")
        if watch:
            click.clear()
        click.echo(json.dumps(swarm, indent=2) if as_json else render_status(swarm))
        if not watch:
            return
        time.sleep(_WATCH_INTERVAL)
