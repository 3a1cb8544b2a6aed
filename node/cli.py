"""The command line: which command runs, and how its end is told.

    0   it worked          results on stdout
    1   it failed          one line on stderr that says what to do next
    2   wrong use          one line on stderr that says what is wrong; nothing was changed

Commands are found by name and imported when they run: `status` must not wait for
what only `start` needs. Whatever else a command raises is a mistake of ours and
shows its traceback.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import click

import node
from api.errors import ApiError, UnsafeBinding
from ledger.errors import LedgerError
from node.errors import NodeError, WrongUse
from p2p.errors import BadToken, P2PError

_COMMANDS = {
    "start": "node.commands.run:start",
    "join": "node.commands.run:join",
    "front": "node.commands.run:front",
    "demo": "node.commands.demo:demo",
    "token": "node.commands.token:token",
    "models": "node.commands.models:models",
    "ledger": "node.commands.ledger:ledger",
    "status": "node.commands.status:status",
    "chat": "node.commands.chat:chat",
    "drain": "node.commands.goodbye:drain",
    "leave": "node.commands.goodbye:leave",
    "doctor": "node.commands.doctor:doctor",
}
_ALIASES = {"federated": "front"}

_WRONG_USE = (WrongUse, BadToken, UnsafeBinding)
"""Errors that are about what was asked for: exit 2."""


class _Commands(click.Group):
    """Commands that are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = _COMMANDS.get(_ALIASES.get(cmd_name, cmd_name))
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="First machine: localai-node start --model FILE. It prints the line to paste on the others.",
)
@click.version_option(node.__version__, prog_name="localai-node")
def cli() -> None:
    """One swarm of the machines you own, one OpenAI endpoint in front of all of them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        cli(args=arguments, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        hint = f"; see `{context.command_path} --help`" if context else ""
        click.echo(f"localai-node: {error.format_message().rstrip('.')}{hint}", err=True)
        return error.exit_code
    except click.Abort:
        return 130  # 128 + SIGINT, as shells have it
    except (NodeError, P2PError, LedgerError, ApiError) as error:
        click.echo(f"localai-node: {error}", err=True)
        return 2 if isinstance(error, _WRONG_USE) else 1
    except OSError as error:
        # A full disk, a home that cannot be written: the machine's fault, and its person can mend it.
        place = f"{error.filename}: " if error.filename else ""
        click.echo(f"localai-node: {place}{error.strerror or error}", err=True)
        return 1
    return 0
