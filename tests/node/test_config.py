"""A setting comes from its flag, else the environment, else config.toml, else it has a default."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.backend import PolicyName
from ledger import records
from node.config import (
    API_DEFAULT,
    HOME_VARIABLE,
    LABELS_MAX,
    POLICIES,
    WEIGHTS,
    NodeConfig,
    home_option,
)
from node.errors import HomeDamaged
from node.flag_types import DurationType, HostPort, KeepAliveType
from node.home import Home
from node.run_flags import node_config, run_options

Configure = Callable[..., NodeConfig]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def configure(home: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """The configuration that a command line gives, in a home and an environment of their own."""
    for name in list(os.environ):
        if name.startswith("LOCALAI_NODE_"):
            monkeypatch.delenv(name)

    def configure(*arguments: str, worker: bool = True) -> NodeConfig:
        configs: list[NodeConfig] = []

        @click.command
        @run_options(worker=worker)
        def command(*, home: object, **options: object) -> None:
            configs.append(node_config(home, options))  # type: ignore[arg-type]  # click's callback made it

        command(["--home", str(home), *arguments], standalone_mode=False)
        return configs[0]

    return configure


def test_a_front_looks_models_up_where_it_is_told_as_workers_do(configure: Configure) -> None:
    for worker in (True, False):
        assert configure("--gallery", "home=/models.yaml", worker=worker).galleries == ("home=/models.yaml",)


def test_a_node_nobody_configured_keeps_to_itself(configure: Configure) -> None:
    config = configure()
    assert config.api == HostPort.parse(API_DEFAULT)
    assert (config.listen, config.models, config.api_keys) == ((), (), ())
    assert (config.worker, config.mdns, config.allow_unauthenticated) == (True, True, False)
    assert config.name


def test_memory_is_said_as_it_is_sold(configure: Configure, home: Path) -> None:
    assert configure().engine_memory == 0
    for text, size_bytes in (("6GB", 6 * 2**30), ("1.5gib", 3 * 2**29), ("500M", 500 * 2**20)):
        assert configure("--engine-memory", text).engine_memory == size_bytes
    (home / "config.toml").write_text('engine_memory = "2GB"\n')
    assert configure().engine_memory == 2 * 2**30


def test_flag_before_environment_before_file_before_default(
    configure: Configure, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert configure().slots == 4
    (home / "config.toml").write_text("slots = 5\n")
    assert configure().slots == 5
    monkeypatch.setenv("LOCALAI_NODE_SLOTS", "6")
    assert configure().slots == 6
    assert configure("--slots", "7").slots == 7


def test_every_kind_of_setting_can_stand_in_the_file(configure: Configure, home: Path) -> None:
    (home / "config.toml").write_text(
        """
        name = "desktop"
        api = "0.0.0.0:9000"
        listen = ["/ip4/0.0.0.0/tcp/5000", "/ip6/::/tcp/5000"]
        model = ["/models/a b.gguf", "demo"]
        api_key = "one"
        mdns = false
        hedge = 0.05
        worker = false
        allow_unauthenticated = true
        policy = "random"
        memory = "6GiB"
        keep_alive = "15m"
        pin = ["tiny"]
        kv_cache_type = "q8_0"
        log_level = "debug"
        log_format = "json"
        """
    )
    config = configure()
    assert (config.name, config.api) == ("desktop", HostPort("0.0.0.0", 9000))
    assert config.listen == ("/ip4/0.0.0.0/tcp/5000", "/ip6/::/tcp/5000")
    assert config.models == ("/models/a b.gguf", "demo")
    assert config.api_keys == ("one",)
    assert (config.mdns, config.worker, config.allow_unauthenticated) == (False, False, True)
    assert config.hedge == 0.05
    assert config.policy == "random"
    assert (config.memory_bytes, config.keep_alive, config.pinned) == (6 * 2**30, 900.0, ("tiny",))
    assert config.kv_cache_type == "q8_0"


def test_one_value_of_a_repeatable_flag_needs_no_brackets(configure: Configure, home: Path) -> None:
    (home / "config.toml").write_text('model = "demo"\nlisten = "/ip4/0.0.0.0/tcp/5000"\n')
    config = configure()
    assert (config.models, config.listen) == (("demo",), ("/ip4/0.0.0.0/tcp/5000",))


def test_a_setting_of_the_file_fills_no_argument_of_its_name(home: Path) -> None:
    (home / "config.toml").write_text('name = "desktop"\n')

    @click.command
    @click.argument("name")
    @home_option
    def command(*, home: Home, name: str) -> None:
        raise AssertionError(name)

    with pytest.raises(click.MissingParameter):
        command(["--home", str(home)], standalone_mode=False)


def test_servers_are_attached_by_their_urls(
    configure: Configure, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (configure().backends, configure().backend_slots, configure().backend_key) == ((), None, "")
    config = configure(
        "--backend", "http://127.0.0.1:11434/v1", "--backend", "https://box.lan", "--backend-slots", "3"
    )
    assert [str(url) for url in config.backends] == ["http://127.0.0.1:11434", "https://box.lan"]
    assert config.backend_slots == 3
    (home / "config.toml").write_text('backend = "http://127.0.0.1:1234"\n')
    assert [str(url) for url in configure().backends] == ["http://127.0.0.1:1234"]
    monkeypatch.setenv("LOCALAI_NODE_BACKEND", "http://a:1 http://b:2")
    monkeypatch.setenv("LOCALAI_NODE_BACKEND_KEY", "hunter2")
    config = configure()
    assert [str(url) for url in config.backends] == ["http://a:1", "http://b:2"]
    assert config.backend_key == "hunter2"
    assert "hunter2" not in repr(config)
    with pytest.raises(click.BadParameter, match=r"write http://127\.0\.0\.1:11434"):
        configure("--backend", "127.0.0.1:11434")


def test_every_kind_of_setting_can_stand_in_the_environment(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALAI_NODE_NAME", "desktop")
    monkeypatch.setenv("LOCALAI_NODE_LISTEN", "/ip4/0.0.0.0/tcp/5000 /ip6/::/tcp/5000")
    monkeypatch.setenv("LOCALAI_NODE_MODEL", os.pathsep.join(["/models/a b.gguf", "demo"]))
    monkeypatch.setenv("LOCALAI_NODE_WORKER", "false")
    config = configure()
    assert config.name == "desktop"
    assert config.listen == ("/ip4/0.0.0.0/tcp/5000", "/ip6/::/tcp/5000")
    assert config.models == ("/models/a b.gguf", "demo")
    assert config.worker is False


def test_a_front_runs_no_models_whatever_its_home_says(configure: Configure, home: Path) -> None:
    (home / "config.toml").write_text('model = ["demo"]\nworker = true\n')
    config = configure(worker=False)
    assert (config.worker, config.models) == (False, ())


def test_a_home_is_where_the_flag_else_the_environment_else_the_platform_says(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes: list[Home] = []

    @click.command
    @home_option
    def command(*, home: Home) -> None:
        homes.append(home)

    for variable, arguments in (("", []), ("/somewhere", []), ("/somewhere", ["--home", str(home)])):
        monkeypatch.setenv(HOME_VARIABLE, variable)
        command(arguments, standalone_mode=False)
    assert homes[0].path.name == "localai-node"
    assert homes[1:] == [Home(Path("/somewhere").absolute()), Home(home)]


def test_a_configuration_does_not_show_its_secrets(configure: Configure) -> None:
    assert "sesame" not in repr(configure("--api-key", "sesame"))


def test_a_key_that_no_flag_is_called_is_named(configure: Configure, home: Path) -> None:
    (home / "config.toml").write_text("slotz = 5\nmodles = []\n")
    with pytest.raises(HomeDamaged, match=r"config\.toml sets modles, slotz, which no flag is called"):
        configure()


@pytest.mark.parametrize("text", ["slots = ", "= 5", "\0", "slots 5"])
def test_a_file_that_is_not_toml_is_named(configure: Configure, home: Path, text: str) -> None:
    (home / "config.toml").write_text(text)
    with pytest.raises(HomeDamaged, match=r"config\.toml cannot be read"):
        configure()


def test_a_file_of_another_encoding_is_named(configure: Configure, home: Path) -> None:
    (home / "config.toml").write_bytes('name = "Küche"'.encode("latin-1"))
    with pytest.raises(HomeDamaged, match=r"config\.toml cannot be read"):
        configure()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--slots", "0"),
        ("--slots", "257"),
        ("--slots", "many"),
        ("--engine-memory", "0GB"),
        ("--engine-memory", "lots"),
        ("--engine-memory", "6"),
        ("--api", "8080"),
        ("--api", "localhost:99999"),
        ("--listen", "0.0.0.0:4747"),
        ("--listen", "/ip4/0.0.0.0/udp/4747"),
        ("--listen", "/dns4/localhost/tcp/4747"),
        ("--listen", "/ip4/0.0.0.0/tcp/4747/p2p/me"),
        ("--policy", "eta2"),
        ("--label", " "),
        ("--label", "one,two"),
        ("--label", "x" * 65),
        ("--weight", "0"),
        ("--weight", "101"),
        ("--name", " "),
        ("--api-key", ""),
        ("--api-key", " sesame"),
        ("--api-key", "schlüssel"),
        ("--name", "x" * 65),
        ("--name", "two\nlines"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_flags_name(
    configure: Configure, arguments: tuple[str, str]
) -> None:
    with pytest.raises(click.BadParameter) as refusal:
        configure(*arguments)
    assert arguments[0] in refusal.value.format_message()


def test_a_wrong_value_in_the_file_is_refused_as_well(configure: Configure, home: Path) -> None:
    (home / "config.toml").write_text('slots = "many"\n')
    with pytest.raises(click.BadParameter):
        configure()


def test_a_name_is_what_is_left_without_the_space_around_it(configure: Configure) -> None:
    assert configure("--name", " Küche ").name == "Küche"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("[::1]:8080", "::1", 8080),
        ("desktop.local:65535", "desktop.local", 65535),
    ],
)
def test_host_and_port_are_told_apart(text: str, host: str, port: int) -> None:
    assert HostPort.parse(text) == HostPort(host, port)


@given(st.text(max_size=30))
def test_what_is_not_host_and_port_raises_value_error_and_nothing_else(text: str) -> None:
    try:
        parsed = HostPort.parse(text)
    except ValueError:
        return
    assert parsed.host
    assert 0 <= parsed.port <= 65535


def test_a_duration_has_a_unit() -> None:
    convert = DurationType().convert
    assert [convert(text, None, None) for text in ("30m", "1h", "7d")] == [1800, 3600, 7 * 86400]
    for text in ("", "7", "d", "0d", "-1h", "1.5h", "1w", "9999999d"):
        with pytest.raises(click.BadParameter):
            convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90.0), ("5m", 300.0), ("1h", 3600.0), ("0", 0.0), ("forever", math.inf)]
)
def test_a_model_is_kept_for_as_long_as_people_say(text: str, seconds: float) -> None:
    assert KeepAliveType().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "5", "-1m", "always", "1.5h"])
def test_what_is_no_time_to_keep_a_model_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 90s, 5m, 1h, 0 or forever"):
        KeepAliveType().convert(text, None, None)


def test_a_node_says_how_it_is_called_and_how_much_it_is_to_be_used(configure: Configure, home: Path) -> None:
    config = configure("--label", "gpu", "--label", " quiet ", "--weight", "2.5", "--policy", "random")
    assert (config.labels, config.weight, config.policy) == (("gpu", "quiet"), 2.5, "random")
    assert (configure().labels, configure().weight, configure().policy) == ((), 1.0, "eta")
    (home / "config.toml").write_text('label = ["cellar"]\nweight = 0.5\n')
    assert (configure().labels, configure().weight) == (("cellar",), 0.5)


def test_models_of_other_programs_are_where_those_have_them(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", "/big/ollama")
    monkeypatch.setenv("LOCALAI_NODE_MODELS_FROM", "ollama /data/gguf")
    assert configure().models_from == (Path("/big/ollama"), Path("/data/gguf"))
    assert configure("--models-from", "/mine").models_from == (Path("/mine"),)


def test_a_node_has_so_many_labels_and_no_more(configure: Configure) -> None:
    names = [f"label {number}" for number in range(LABELS_MAX + 1)]
    assert len(configure(*(f"--label={name}" for name in names[1:])).labels) == LABELS_MAX
    with pytest.raises(click.UsageError, match="16 labels"):
        configure(*(f"--label={name}" for name in names))


def test_the_bounds_of_the_flags_are_those_of_what_they_set() -> None:
    assert get_args(PolicyName) == POLICIES
    assert (records.WEIGHT_MIN, records.WEIGHT_MAX) == WEIGHTS
    assert records.LABELS_MAX == LABELS_MAX
