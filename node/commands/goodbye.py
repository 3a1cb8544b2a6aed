"""`localai-node drain` and `localai-node leave`."""

from __future__ import annotations

import click

from node.config import home_option
from node.control import ask
from node.home import Home

_TIMEOUT_DEFAULT = 60.0
"""Seconds: most answers are done by then, and who asked to leave is waiting."""
_GRACE = 15.0
"""Seconds on top for the node to say goodbye and answer us."""

_timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=_TIMEOUT_DEFAULT,
    show_default=True,
    help="Seconds that running answers get to finish.",
)


@click.command(epilog="Example: localai-node drain && sudo reboot")
@_timeout_option
@home_option
def drain(*, home: Home, timeout: float) -> None:
    """Finish what runs and take nothing new; return when the node is idle.

    The node keeps routing requests to others. It takes work again when it is restarted.
    """
    unfinished = ask(home, "drain", timeout=timeout + _GRACE, grace=timeout)
    if unfinished:
        click.echo(f"nothing new is taken; answers that still run after {timeout:g} s: {unfinished}")
    else:
        click.echo("drained: nothing runs here, and nothing new is taken")


@click.command(epilog="Example: localai-node leave")
@_timeout_option
@home_option
def leave(*, home: Home, timeout: float) -> None:
    """Finish what runs, say goodbye for good, and stop the node.

    The others forget it at once. It may join again with the same token.
    """
    ask(home, "leave", timeout=timeout + _GRACE, grace=timeout)
    click.echo("left the swarm; the node is stopping")
