"""`localai-node token ...`: tokens, alone on the last line of stdout."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import click

from node.config import home_option
from node.control import ask
from node.errors import WrongUse
from node.home import Home
from node.place import SWARM_NAME_DEFAULT, found, load_place, may_not_invite, new_invite
from p2p.credential import NEVER, Invite, Role
from p2p.membership import SwarmMembership
from p2p.peer import PeerAddress
from p2p.token import Token

_SECONDS = {"m": 60, "h": 3600, "d": 86400}


class _Duration(click.ParamType[int]):
    """`30m`, `1h`, `7d`, as seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration; write 30m, 1h or 7d", param, ctx)
        return int(match[1]) * _SECONDS[match[2]]


@click.group(epilog="Example: localai-node token show")
def token() -> None:
    """Tokens let machines join. Whoever has one may join: treat it as a password."""


@token.command(epilog="Example: localai-node token new --swarm attic")
@click.option("--swarm", default=SWARM_NAME_DEFAULT, show_default=True, help="What to call a new swarm.")
@home_option
def new(*, home: Home, swarm: str) -> None:
    """Found a swarm in this home if it is in none, and print its token."""
    place = load_place(home)
    if place is None:
        with home.lock():
            place = found(home, swarm)
        click.echo(f"founded swarm {place.swarm} in {home.path}", err=True)
    _print_token(home, place, _own_invite(place))


@token.command(epilog="Example: localai-node token show")
@home_option
def show(*, home: Home) -> None:
    """Print the token of this home's swarm, with the running node's addresses."""
    place = _require_place(home)
    _print_token(home, place, _own_invite(place))


@token.command(epilog="Example: localai-node token invite --role client --expires 7d")
@click.option("--role", type=click.Choice(["worker", "client", "admin"]), default="worker", show_default=True)
@click.option(
    "--expires", type=_Duration(), help="How long it lets machines connect: 30m, 1h, 7d. Default: for ever."
)
@home_option
def invite(*, home: Home, role: str, expires: int | None) -> None:
    """Print a token of its own for one more friend, which can end by itself."""
    place = _require_place(home)
    expires_at = NEVER if expires is None else int(time.time()) + expires
    _print_token(home, place, new_invite(home, place, cast("Role", role), expires_at))


@token.command(epilog="Example: localai-node token inspect lnode1...")
@click.argument("text", metavar="TOKEN")
def inspect(*, text: str) -> None:
    """What a token says, without its secrets."""
    facts = Token.decode(text).facts
    grant = facts.grant
    expires = (
        "never" if grant.expires_at == NEVER else datetime.fromtimestamp(grant.expires_at, UTC).isoformat()
    )
    click.echo(f"swarm      {facts.swarm}")
    click.echo(f"founder    {facts.founder_public_key.hex()}")
    click.echo(f"role       {grant.role}")
    click.echo(f"expires    {expires}")
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


def _print_token(home: Home, place: SwarmMembership, invite: Invite) -> None:
    click.echo(place.token(invite, _addresses(home)).encode())


def _addresses(home: Home) -> Sequence[PeerAddress]:
    """Where others will find this node: the running node knows, an idle home remembers."""
    return [PeerAddress.parse(str(text)) for text in ask(home, "info")["addresses"]]
