"""`localai-node start`, `join` and `front`: the commands that run a node."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.config import TOKEN_VARIABLE, NodeConfig, token_options
from node.errors import WrongUse
from node.home import Home
from node.log import LogFormat, announcements, logging_to_stderr
from node.place import found, load_place
from node.place import join as join_swarm
from node.run_flags import node_config, run_options
from node.status_table import model_text
from p2p.interfaces import own_addresses
from p2p.membership import SwarmMembership
from p2p.token import Token

if TYPE_CHECKING:
    from node.runtime import Ready

logger = logging.getLogger(__name__)

_TOKEN_READ_MAX = 64 * 1024
"""Characters. Far more than a token has: what is longer is some other file, and is called so."""


@click.command(epilog="Example: localai-node start --model ~/models/qwen.gguf")
@run_options(worker=True)
def start(*, home: Home, **options: Any) -> None:  # noqa: ANN401 (the flags of `node/config.py`)
    """Start this machine's node. The first time it founds a swarm; then it comes back to it."""
    _run(home, options, lambda: load_place(home) or _found(home))


def _found(home: Home) -> SwarmMembership:
    place = found(home)
    logger.info("founded a new swarm, %s, in %s", place.swarm, home.path)
    return place


@click.command(epilog="Example: localai-node join --token lnode1... --model ~/models/qwen.gguf")
@token_options
@run_options(worker=True)
def join(*, home: Home, token: str | None, token_file: Path | None, **options: Any) -> None:  # noqa: ANN401
    """Join a swarm by its token and serve this machine's models to it."""
    _run_joined(home, options, token, token_file)


@click.command(epilog="Example: localai-node front --token lnode1...")
@token_options
@run_options(worker=False)
def front(*, home: Home, token: str | None, token_file: Path | None, **options: Any) -> None:  # noqa: ANN401
    """Join a swarm without running models: only answer requests, by asking the others."""
    _run_joined(home, options, token, token_file)


def _run_joined(home: Home, options: Mapping[str, Any], token: str | None, token_file: Path | None) -> None:
    """Run a node in the place the token gives, or without a token in the one its home has already."""
    text = token if token_file is None else _read_token(token_file)
    if text:
        # Before anything is created: a token that is none changes nothing.
        decoded = Token.decode(text)
        _run(home, options, lambda: join_swarm(home, decoded, time.time()))
        return
    place = load_place(home)
    if place is None:
        raise WrongUse(f"no token: give --token, --token-file or {TOKEN_VARIABLE}")
    _run(home, options, lambda: place)


def _read_token(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_TOKEN_READ_MAX)
    except OSError as error:
        raise WrongUse(f"cannot read a token from {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise WrongUse(f"cannot read a token from {path}: {error}") from error


def _run(home: Home, options: Mapping[str, Any], take_place: Callable[[], SwarmMembership]) -> None:
    """Run a node in the place that `take_place` finds for it, until it is told to stop."""
    log_format: LogFormat = options["log_format"]
    config = node_config(home, options)

    from api.access import require_safe_binding
    from node.run_trio import run_trio
    from node.runtime import run_node

    # Before anything is created: what may not run shall not found a swarm either.
    require_safe_binding(config.api.host, config.api_keys, allow_unauthenticated=config.allow_unauthenticated)
    _require_no_loop(config)
    with logging_to_stderr(options["log_level"], log_format), home.lock():
        place = take_place()
        if (config.worker or config.backends) and place.role == "client":
            raise WrongUse(
                "the invite to this swarm is for clients, which run no models: use `localai-node front`"
            )

        async def main() -> None:
            await run_node(config, place, lambda ready: _tell(ready, config, place, log_format))

        run_trio(main)


def _require_no_loop(config: NodeConfig) -> None:
    for url in config.backends:
        if url.leads_to(config.api.host, config.api.port):
            raise WrongUse(
                f"--backend {url} is where this node itself answers: give the server's address, "
                "or another --api to this node"
            )


def _tell(ready: Ready, config: NodeConfig, place: SwarmMembership, log_format: LogFormat) -> None:
    """Say that the node is up: one event for a program, what to do next for a person."""
    if log_format == "json":
        listen = [str(address) for address in ready.addresses]
        announcements.info("ready", extra={"api": ready.api, "peer_id": ready.peer_id, "listen": listen})
        return
    click.echo(f"node {config.name} is up in swarm {place.swarm}", err=True)
    click.echo(f"  OpenAI endpoint   {ready.api}/v1", err=True)
    if config.api.host == "0.0.0.0":  # noqa: S104 (compared, not bound)
        outside = next((own for own in own_addresses() if own.version == 4 and not own.is_loopback), None)
        if outside is not None:
            click.echo(f"  from elsewhere    http://{outside}:{ready.api.rpartition(':')[2]}/v1", err=True)
    for model in ready.models:
        said = {"name": model.name, "state": model.state, "reason": model.reason, "program": model.program}
        text = model_text(said)
        click.echo(f"  model             {text}", err=True)
    for url in () if ready.models else config.backends:
        click.echo(f"  no model yet      from {url}; they come as soon as it serves some", err=True)
    if config.worker and not ready.models:
        click.echo(
            "  no model yet      localai-node models pull NAME   (or models add FILE, or --model demo)",
            err=True,
        )
    if place.invite is not None:
        token = place.token(place.invite, ready.addresses).encode()
        click.echo("  another machine   paste this line there:", err=True)
        click.echo(f"localai-node join --token {token}")
