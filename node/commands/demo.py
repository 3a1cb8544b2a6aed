"""`localai-node demo`."""

from __future__ import annotations

import sys

import click


@click.command(epilog="Example: localai-node demo --once")
@click.option(
    "--once", is_flag=True, help="Ask, kill a node, ask again, and end. Exit 0 only if all of it worked."
)
def demo(*, once: bool) -> None:
    """A swarm of three nodes on this machine with the bundled model, until Ctrl-C."""
    from node.demo import run_demo
    from node.run_trio import run_trio

    async def main() -> None:
        await run_demo(_write, once=once)

    try:
        run_trio(main)
    except KeyboardInterrupt:
        click.echo("\nthe swarm is gone", err=True)
        if once:
            raise click.Abort from None


def _write(text: str) -> None:
    click.echo(text, nl=False)
    sys.stdout.flush()
