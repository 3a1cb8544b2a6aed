"""`localai-node doctor`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from node.attached.server_url import ServerUrl
from node.config import api_option, backend_key_option, backend_option, home_option, listen_option
from node.errors import NodeError
from node.flag_types import HostPort
from node.home import Home


@click.command(epilog="Example: localai-node doctor")
@api_option
@listen_option
@backend_option
@backend_key_option
@home_option
def doctor(
    *, home: Home, api: HostPort, listen: Sequence[str], backend: Sequence[ServerUrl], backend_key: str | None
) -> None:
    """Look at this machine, one line per finding, and say what to do. Changes nothing.

    Exits 1 if there is a problem.
    """
    from node.examination import examine

    problems = 0
    for finding in examine(home, api, listen, backend, backend_key or ""):
        click.echo(str(finding))
        problems += finding.level == "problem"
    if problems:
        raise NodeError("1 problem was found" if problems == 1 else f"{problems} problems were found")
