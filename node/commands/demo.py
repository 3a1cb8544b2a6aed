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
    import trio

    from node.demo import run_demo

    async def main() -> None:
        await run_demo(_write, once=once)

    try:
        trio.run(main, strict_exception_groups=False)
    except KeyboardInterrupt:
        click.echo("\nthe swarm is gone", err=True)


def _write(text: str) -> None:
    click.echo(text, nl=False)
    sys.stdout.flush()
