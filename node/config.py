"""What a node is asked to be: flag > `LOCALAI_NODE_*` > `config.toml` > default.

The only module that reads settings. `config.toml` in the home holds the same names
as the flags (`name`, `api`, `listen`, `model`, `slots`, ...), one flat table:

    name = "desktop"
    model = ["/models/qwen.gguf"]
    slots = 8
"""

from __future__ import annotations

import socket
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from node.errors import HomeDamaged
from node.home import Home, default_home

Command = TypeVar("Command", bound=Callable[..., Any])

LISTEN_DEFAULT = "/ip4/0.0.0.0/tcp/4747"
API_DEFAULT = "127.0.0.1:8080"
SLOTS_DEFAULT = 4
"""A household's worth of simultaneous questions; each slot takes its share of the context's memory."""


@dataclass(frozen=True, slots=True)
class HostPort:
    """Where the HTTP API listens. Port 0: any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> HostPort:
        """`HOST:PORT`, an IPv6 host in brackets.

        Raises:
          ValueError: it is something else.
        """
        host, separator, port = text.rpartition(":")
        if not separator or not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"{text!r} is not HOST:PORT, for example {API_DEFAULT}")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Everything that was asked of one node."""

    home: Home
    name: str
    api: HostPort
    listen: tuple[str, ...] = ()
    """Multiaddrs; empty: the port kept in the home, else the default one."""
    models: tuple[str, ...] = ()
    """Files, or `demo`."""
    slots: int = SLOTS_DEFAULT
    """Sequences each engine runs at once."""
    worker: bool = True
    mdns: bool = True
    api_keys: tuple[str, ...] = ()
    allow_unauthenticated: bool = False
    policy: str = "least_used"
    exit_with_stdin: bool = False
    """End when stdin ends: how a parent process owns a node even if it is killed."""


class _HostPortType(click.ParamType[HostPort]):
    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> HostPort:  # noqa: ANN401 (click's signature)
        if isinstance(value, HostPort):
            return value
        try:
            return HostPort.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def load_config_file(path: Path) -> dict[str, Any]:
    """The settings in `path`; none when there is no such file.

    Raises:
      HomeDamaged: it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise HomeDamaged(f"{path} cannot be read: {error}") from error


def _use_home(context: click.Context, parameter: click.Parameter, value: Path | None) -> Home:
    """Turn `--home` into a `Home`, and its config.toml into the defaults of what is parsed after it."""
    home = Home((value or default_home()).expanduser().absolute())
    settings = load_config_file(home.config_file)
    unknown = sorted(set(settings) - _setting_names)
    if unknown:
        raise HomeDamaged(
            f"{home.config_file} sets {', '.join(unknown)}, which no flag is called; "
            "see `localai-node start --help`"
        )
    context.default_map = settings
    return home


def home_option(command: Command) -> Command:
    """Give `command` its `--home`."""
    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        callback=_use_home,
        is_eager=True,
        help="Folder of this node's keys, models and ledger (LOCALAI_NODE_HOME).",
    )(command)


_setting_names: set[str] = set()
"""What config.toml may set: filled by the definitions below."""


def _setting(flag: str, **attributes: Any) -> Callable[[Command], Command]:  # noqa: ANN401 (click's own keywords)
    """An option that `LOCALAI_NODE_<FLAG>` sets too."""
    name = flag.removeprefix("--").partition("/")[0].replace("-", "_")
    _setting_names.add(name)
    return click.option(flag, envvar=f"LOCALAI_NODE_{name.upper()}", **attributes)


_RUN_SETTINGS = (
    _setting(
        "--name", default=socket.gethostname, show_default="this machine's", help="How others see this node."
    ),
    _setting(
        "--api",
        type=_HostPortType(),
        default=API_DEFAULT,
        show_default=True,
        help="Where to answer HTTP; port 0: any free one.",
    ),
    _setting(
        "--listen",
        multiple=True,
        metavar="MULTIADDR",
        help=f"Where peers connect to: {LISTEN_DEFAULT}, or the next free port, if not given. Repeatable.",
    ),
    _setting("--mdns/--no-mdns", default=True, help="Find members of this swarm on the local network."),
    _setting("--api-key", multiple=True, metavar="KEY", help="Ask HTTP clients for this key. Repeatable."),
    _setting(
        "--allow-unauthenticated", is_flag=True, help="Let a public address answer anyone, without a key."
    ),
    _setting(
        "--policy",
        type=click.Choice(["least_used", "random"]),
        default="least_used",
        show_default=True,
        help="How a peer is chosen.",
    ),
    _setting(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        help="What is worth a line on stderr.",
    ),
    _setting(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Lines for people, or for programs.",
    ),
    click.option(
        "--exit-with-stdin", is_flag=True, help="End when stdin ends: for programs that own a node."
    ),
)
_WORKER_SETTINGS = (
    _setting(
        "--model",
        multiple=True,
        metavar="FILE|demo",
        help="A GGUF file to serve, or the bundled demo model. Repeatable.",
    ),
    _setting(
        "--slots",
        type=click.IntRange(1, 256),  # llama.cpp refuses more sequences in one context
        default=SLOTS_DEFAULT,
        show_default=True,
        help="Answers each model gives at once.",
    ),
    _setting("--worker/--no-worker", default=True, help="Run models here, or only route requests."),
)


def run_options(*, worker: bool) -> Callable[[Command], Command]:
    """Give a command that runs a node its flags, each also read from `LOCALAI_NODE_*` and config.toml."""

    def decorate(command: Command) -> Command:
        for option in reversed((*_RUN_SETTINGS, *(_WORKER_SETTINGS if worker else ()))):
            command = option(command)
        return home_option(command)

    return decorate


def node_config(home: Home, options: Mapping[str, Any]) -> NodeConfig:
    """The configuration in the parsed `options` of a command with `run_options`."""
    return NodeConfig(
        home=home,
        name=options["name"],
        api=options["api"],
        listen=tuple(options["listen"]),
        models=tuple(options.get("model", ())),
        slots=options.get("slots", SLOTS_DEFAULT),
        worker=options.get("worker", False),
        mdns=options["mdns"],
        api_keys=tuple(options["api_key"]),
        allow_unauthenticated=options["allow_unauthenticated"],
        policy=options["policy"],
        exit_with_stdin=options["exit_with_stdin"],
    )
