"""What a node is asked to be: flag > `LOCALAI_NODE_*` > `config.toml` > default.

The only module that reads settings. `config.toml` in the home holds the same names
as the flags, one flat table; a flag that says yes or no is `true` or `false`:

    name = "desktop"
    model = ["/models/qwen.gguf"]
    slots = 8
    mdns = false

In the environment several values of one flag stand in one variable, with spaces between
them, or between files with what separates them in PATH.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import platformdirs

from node.attached.server_url import ServerUrl
from node.child_environment import SETTINGS_PREFIX
from node.errors import HomeDamaged
from node.flag_types import (
    ApiKeyType,
    HostPort,
    HostPortType,
    MultiaddrType,
    ServerUrlType,
)
from node.home import Home
from node.listening import PORT_DEFAULT
from node.sources.source_settings import LOCALAI_GALLERY, SourceSettings

if TYPE_CHECKING:
    from federation.backend import PolicyName
    from node.engine.wire import CacheType

Command = TypeVar("Command", bound=Callable[..., Any])

HOME_VARIABLE = f"{SETTINGS_PREFIX}HOME"
TOKEN_VARIABLE = f"{SETTINGS_PREFIX}TOKEN"
API_KEY_VARIABLE = f"{SETTINGS_PREFIX}API_KEY"
LISTEN_DEFAULT = f"/ip4/0.0.0.0/tcp/{PORT_DEFAULT}"
API_DEFAULT = "127.0.0.1:8080"
SLOTS_DEFAULT = 4
"""A household's worth of simultaneous questions; each slot takes memory for a context of its own."""
POLICIES = ("eta", "least_used", "random")
WEIGHTS = (0.01, 100.0)
LABELS_MAX = 16
"""As `federation/backend.py` and `ledger/records.py` have them, which take too long to import for a command
that only asks a node."""


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
    models_from: tuple[Path, ...] = ()
    """Folders of other programs, whose models are served where they are."""
    slots: int = SLOTS_DEFAULT
    """Sequences each engine runs at once."""
    memory_bytes: int | None = None
    """That all models together may take; None: most of what the machine has."""
    keep_alive: float = math.inf
    """Seconds that a model stays in memory which nobody uses."""
    pinned: tuple[str, ...] = ()
    """Names of models that stay."""
    kv_cache_type: CacheType = "f16"
    engine_memory: int = 0
    """Bytes after which an engine is ended; 0: never."""
    worker: bool = True
    backends: tuple[ServerUrl, ...] = ()
    """Servers of other programs whose models are this node's too."""
    backend_slots: int | None = None
    """Answers each of them gives at once; None: what it says, else what is usual for it."""
    backend_key: str = field(default="", repr=False)
    mdns: bool = True
    hedge: float = 0.0
    """The share of streams, 0 to 1, that may go to one more peer when the first is late."""
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    allow_unauthenticated: bool = False
    policy: PolicyName = "eta"
    labels: tuple[str, ...] = ()
    """What else requests may call this node by."""
    weight: float = 1.0
    """2: used as if it was twice as fast."""
    models_size_max: int = 0
    """Bytes of models that the swarm may place here; 0: none."""
    upload_rate: float = 0.0
    """Bytes a second to all peers that fetch models from here; 0: as many as they take."""
    galleries: tuple[str, ...] = (LOCALAI_GALLERY,)
    """Where models are looked up by name."""
    sources: SourceSettings = field(default_factory=SourceSettings, repr=False)
    """Which servers stand behind `hf://` and `ollama://`, and who we are there."""
    exit_with_stdin: bool = False
    """End when stdin ends: how a parent process owns a node even if it is killed."""


def load_config_file(path: Path) -> dict[str, Any]:
    """The settings in `path`; none when there is no such file.

    Raises:
      HomeDamaged: it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise HomeDamaged(f"{path} cannot be read: {error}") from error


def _use_home(context: click.Context, parameter: click.Parameter, value: Path | None) -> Home:
    """Turn `--home` into a `Home`, and its config.toml into the defaults of what is parsed after it."""
    folder = value or Path(platformdirs.user_data_dir("localai-node", appauthor=False))
    home = Home(folder.expanduser().absolute())
    settings = load_config_file(home.config_file)
    unknown = sorted(set(settings) - set(_is_repeatable))
    if unknown:
        raise HomeDamaged(
            f"{home.config_file} sets {', '.join(unknown)}, which no flag is called; "
            "see `localai-node start --help`"
        )
    # No argument is a setting: `chat MODEL` asks for one, `--model` serves one.
    flags = {parameter.name for parameter in context.command.params if isinstance(parameter, click.Option)}
    # One value of a flag that may be repeated needs no brackets.
    context.default_map = {
        name: [value] if _is_repeatable[name] and not isinstance(value, list) else value
        for name, value in settings.items()
        if name in flags
    }
    return home


def home_option(command: Command) -> Command:
    """Give `command` its `--home`, the platform's data folder if nothing says otherwise."""
    return click.option(
        "--home",
        envvar=HOME_VARIABLE,
        type=click.Path(path_type=Path, file_okay=False),
        callback=_use_home,
        is_eager=True,
        help=f"Folder of this node's keys, models and ledger ({HOME_VARIABLE}).",
    )(command)


def token_options(command: Command) -> Command:
    """Give `command` the two ways to be told a token; neither is a setting, and config.toml has none."""
    command = click.option(
        "--token-file", type=click.Path(path_type=Path, dir_okay=False), help="Read the token from a file."
    )(command)
    return click.option(
        "--token", envvar=TOKEN_VARIABLE, help=f"The token that `start` printed ({TOKEN_VARIABLE})."
    )(command)


_is_repeatable: dict[str, bool] = {}
"""What config.toml may set, by name: filled by the definitions below."""


def setting(flag: str, *, multiple: bool = False, **attributes: Any) -> Callable[[Command], Command]:  # noqa: ANN401 (click's own keywords)
    """An option that `LOCALAI_NODE_<FLAG>` sets too."""
    name = flag.removeprefix("--").partition("/")[0].replace("-", "_")
    _is_repeatable[name] = multiple
    return click.option(flag, envvar=f"{SETTINGS_PREFIX}{name.upper()}", multiple=multiple, **attributes)


api_option = setting(
    "--api",
    type=HostPortType(),
    default=API_DEFAULT,
    show_default=True,
    help="Where to answer HTTP; port 0: any free one.",
)
listen_option = setting(
    "--listen",
    multiple=True,
    type=MultiaddrType(),
    help=f"Where peers connect to: {LISTEN_DEFAULT}, or the next free port, if not given. Repeatable.",
)
api_key_option = setting(
    "--api-key",
    multiple=True,
    type=ApiKeyType(),
    metavar="KEY",
    help="What HTTP clients must show. Repeatable.",
)
gallery_option = setting(
    "--gallery",
    multiple=True,
    metavar="NAME=FILE|URL",
    help="Where models are looked up by name, instead of LocalAI's gallery. Repeatable.",
)
backend_option = setting(
    "--backend",
    multiple=True,
    type=ServerUrlType(),
    metavar="URL",
    help="A local server whose models are served too: Ollama, llama-server, vLLM, LM Studio. Repeatable.",
)
backend_key_option = setting(
    "--backend-key",
    type=ApiKeyType(),
    metavar="KEY",
    help=f"What attached servers are shown, if they want an API key ({SETTINGS_PREFIX}BACKEND_KEY).",
)
