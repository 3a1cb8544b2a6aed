"""`localai-node token ...`: tokens, alone on the last line of stdout."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import click

from node.config import home_option, listen_option
from node.errors import WrongUse
from node.flag_types import DurationType
from node.home import Home
from node.home_addresses import home_addresses
from node.place import SWARM_NAME_DEFAULT, found, load_place, may_not_invite, new_invite
from p2p.credential import NEVER, Invite, Role
from p2p.membership import SwarmMembership
from p2p.token import Token


@click.group(epilog="Example: localai-node token show")
def token() -> None:
    """Tokens let machines join. Whoever has one may join: treat it as a password."""


@token.command(epilog="Example: localai-node token new --swarm attic")
@click.option("--swarm", default=SWARM_NAME_DEFAULT, show_default=True, help="What to call a new swarm.")
@listen_option
@home_option
def new(*, home: Home, swarm: str, listen: Sequence[str]) -> None:
    """Found a swarm in this home if it is in none, and print its token."""
    place = load_place(home)
    if place is None:
        with home.lock():
            place = found(home, swarm)
        click.echo(f"founded swarm {place.swarm} in {home.path}", err=True)
    _print_token(home, place, _own_invite(place), listen)


@token.command(epilog="Example: localai-node token show")
@listen_option
@home_option
def show(*, home: Home, listen: Sequence[str]) -> None:
    """Print the token of this home's swarm, with this node's addresses."""
    place = _require_place(home)
    _print_token(home, place, _own_invite(place), listen)


@token.command(epilog="Example: localai-node token invite --role client --expires 7d")
@click.option("--role", type=click.Choice(["worker", "client", "admin"]), default="worker", show_default=True)
@click.option(
    "--expires",
    type=DurationType(),
    help="How long it lets machines connect: 30m, 1h, 7d. Default: for ever.",
)
@listen_option
@home_option
def invite(*, home: Home, role: str, expires: int | None, listen: Sequence[str]) -> None:
    """Print a token of its own for one more friend, which can end by itself."""
    place = _require_place(home)
    expires_at = NEVER if expires is None else int(time.time()) + expires
    _print_token(home, place, new_invite(home, place, cast("Role", role), expires_at), listen)


@token.command(epilog="Example: localai-node token inspect lnode1...")
@click.argument("text", metavar="TOKEN")
def inspect(*, text: str) -> None:
    """What a token says, without its secrets."""
    facts = Token.decode(text).facts
    grant = facts.grant
    click.echo(f"swarm      {facts.swarm}")
    click.echo(f"founder    {facts.founder_public_key.hex()}")
    click.echo(f"role       {grant.role}")
    click.echo(f"expires    {_date(grant.expires_at)}")
    click.echo(f"invites    {' > '.join(grant.invites)}")
    for address in facts.addresses:
        click.echo(f"address    {address}")


def _require_place(home: Home) -> SwarmMembership:
    place = load_place(home)
    if place is None:
        raise WrongUse(f"{home.path} is in no swarm yet; `localai-node start` founds one, `join` joins one")
    return place


def _own_invite(place: SwarmMembership) -> Invite:
    if place.invite is None:
        raise WrongUse(may_not_invite(place))
    return place.invite


def _print_token(home: Home, place: SwarmMembership, invite: Invite, listen: Sequence[str]) -> None:
    click.echo(place.token(invite, home_addresses(home, listen)).encode())


def _date(expires_at: int) -> str:
    if expires_at == NEVER:
        return "never"
    try:
        date = datetime.fromtimestamp(expires_at, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return "in an age that calendars do not reach"
    return f"{date} (over)" if expires_at < time.time() else date
