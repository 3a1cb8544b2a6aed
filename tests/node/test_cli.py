"""The command line tells every end in one line and by its exit code, and starts no slower than it must."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, NoReturn

import click
import pytest

from api.errors import AddressInUse, ListenFailed, UnsafeBinding
from ledger.errors import CopiedIdentity, StoreFull
from node.cli import cli, main
from node.config import HOME_VARIABLE
from node.errors import CommandRefused, ForeignSwarm, HomeLocked
from node.home import Home
from node.jobs.job import Job, JobId
from node.models.errors import NotGguf
from node.place import found, load_place, new_invite
from p2p.credential import NEVER
from p2p.errors import BadIdentity, BadToken, NotAdmitted
from p2p.identity import Identity

ROOT = Path(__file__).parents[2]
HEAVY = {"libp2p", "llama_cpp", "fastapi", "hypercorn", "trio", "httpx", "pydantic", "structlog"}


class Told(NamedTuple):
    """How a command ended."""

    exit_code: int
    out: str
    err: str

    def is_one_line(self, *words: str) -> bool:
        return self.err.count("\n") == 1 and all(word in self.err for word in words)


Run = Callable[..., Told]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command in this process. None of these tests may get as far as running a node."""

    async def run_node(*_: object) -> NoReturn:
        raise AssertionError("a node was started")

    monkeypatch.setitem(sys.modules, "node.runtime", SimpleNamespace(run_node=run_node))
    monkeypatch.setattr("node.commands.run.logging_to_stderr", lambda *_: nullcontext())

    def run(*arguments: str | Path) -> Told:
        capsys.readouterr()
        return Told(main(list(map(str, arguments))), *capsys.readouterr())

    return run


def new_token(run: Run, home: Home, *arguments: str) -> str:
    told = run("token", "new", "--home", home.path, "--listen", "/ip4/127.0.0.1/tcp/0", *arguments)
    assert told.exit_code == 0, told.err
    return told.out.splitlines()[-1]


def commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command there is, as one types it."""
    found = [path]
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found += commands(command, (*path, name)) if isinstance(command, click.Group) else [(*path, name)]
    return found


@pytest.mark.parametrize("command", [*commands(), ("federated",)], ids=" ".join)
def test_every_command_explains_itself_with_an_example(run: Run, command: tuple[str, ...]) -> None:
    told = run(*command, "--help")
    assert told.exit_code == 0
    assert "Example: " in told.out or not command
    assert told.err == ""


def test_no_command_at_all_shows_which_there_are(run: Run) -> None:
    told = run()
    assert told.exit_code == 2
    assert "doctor" in told.err


def test_the_version_is_told(run: Run) -> None:
    assert run("--version").out.startswith("localai-node, version ")


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (HomeLocked("locked"), 1),
        (CommandRefused("no"), 1),
        (ForeignSwarm("other"), 2),
        (NotGguf("not GGUF"), 1),
        (BadToken("cut"), 2),
        (BadIdentity("damaged"), 1),
        (NotAdmitted("expired"), 1),
        (StoreFull("no room"), 1),
        (CopiedIdentity("copied"), 1),
        (UnsafeBinding("public"), 2),
        (ListenFailed("taken"), 1),
        (AddressInUse("taken"), 1),
    ],
)
def test_every_error_is_one_line_and_an_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, exit_code: int
) -> None:
    def fail(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr("node.commands.status.ask", fail)
    assert run("status") == (exit_code, "", f"localai-node: {error}\n")


def test_what_the_machine_refuses_is_one_line_that_names_the_file(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device", "/home/me/file")

    monkeypatch.setattr("node.commands.status.ask", no_room)
    assert run("status") == (1, "", "localai-node: /home/me/file: No space left on device\n")


def test_a_mistake_of_ours_is_not_dressed_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.commands.status.ask", lambda *_: {})
    with pytest.raises(KeyError):
        run("status")


@pytest.mark.parametrize(
    "arguments",
    [
        ("fly",),
        ("status", "--nope"),
        ("token", "inspect"),
        ("start", "--slots", "0"),
        ("start", "--listen", "x"),
    ],
)
def test_wrong_use_is_one_line_that_names_the_help(run: Run, arguments: tuple[str, ...]) -> None:
    told = run(*arguments)
    assert told.exit_code == 2
    assert told.is_one_line("localai-node: ", "--help`")


@pytest.mark.parametrize("command", [("status",), ("drain",), ("leave",), ("chat",)])
def test_without_a_node_a_command_says_how_to_start_one(
    run: Run, home: Home, command: tuple[str, ...]
) -> None:
    told = run(*command, "--home", home.path)
    assert told.exit_code == 1
    assert told.is_one_line("no node runs in", "localai-node start")
    assert not home.path.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _: "sk-123456", "not a token of localai-node"),
        (lambda token: token[: 6 + 4 * 20], "cut"),
        (lambda token: token[:60] + ("A" if token[60] != "A" else "B") + token[61:], "altered"),
        (lambda token: "lnode2" + token[6:], "another version"),
    ],
)
def test_a_token_that_cannot_be_used_says_why_and_leaves_no_home(
    run: Run, home: Home, tmp_path: Path, change: Callable[[str], str], words: str
) -> None:
    token = change(new_token(run, Home(tmp_path / "founder")))
    for command in ("join", "front", "federated"):
        told = run(command, "--home", home.path, "--token", token)
        assert told.exit_code == 2
        assert told.is_one_line(words)
    assert not home.path.exists()


def test_an_expired_token_says_when(run: Run, home: Home, tmp_path: Path) -> None:
    founder = Home(tmp_path / "founder")
    new_token(run, founder)
    place = load_place(founder)
    assert place is not None
    invite = new_invite(founder, place, "worker", 1_000_000_000)
    told = run("join", "--home", home.path, "--token", place.token(invite, []).encode())
    assert told.exit_code == 2
    assert told.is_one_line("expired", " d ", " ago")
    assert load_place(home) is None


def test_another_swarms_token_names_both_swarms(run: Run, home: Home, tmp_path: Path) -> None:
    token = new_token(run, Home(tmp_path / "founder"), "--swarm", "cellar")
    new_token(run, home, "--swarm", "attic")
    told = run("join", "--home", home.path, "--token", token)
    assert told.exit_code == 2
    assert told.is_one_line("'attic'", "'cellar'", "--home")


def test_a_client_s_invite_runs_no_models(run: Run, home: Home, tmp_path: Path) -> None:
    elsewhere = Home(tmp_path / "founder")
    new_token(run, elsewhere)
    place = load_place(elsewhere)
    assert place is not None
    invite = place.token(new_invite(elsewhere, place, "client", NEVER), []).encode()
    for flags in ((), ("--no-worker", "--backend", "http://127.0.0.1:11434")):
        told = run("join", "--home", home.path, "--token", invite, *flags)
        assert told.exit_code == 2
        assert told.is_one_line("client", "localai-node front")


def test_join_without_a_token_says_where_to_put_it(run: Run, home: Home) -> None:
    told = run("join", "--home", home.path)
    assert told.exit_code == 2
    assert told.is_one_line("--token", "--token-file", "LOCALAI_NODE_TOKEN")


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"x" * 200_000])
def test_a_token_file_that_is_none_is_wrong_use(
    run: Run, home: Home, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    told = run("join", "--home", home.path, "--token-file", path)
    assert told.exit_code == 2
    assert told.is_one_line("token")


def test_a_locked_home_is_said_so(run: Run, home: Home) -> None:
    with home.lock():
        told = run("start", "--home", home.path)
    assert told.exit_code == 1
    assert told.is_one_line("already runs in", str(home.path))


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.168.1.7"])
def test_a_public_api_without_a_key_is_refused_before_anything_is_created(
    run: Run, home: Home, host: str
) -> None:
    told = run("start", "--home", home.path, "--api", f"{host}:8080")
    assert told.exit_code == 2
    assert told.is_one_line("--api-key", "--allow-unauthenticated")
    assert not home.path.exists()


@pytest.mark.parametrize("url", ["http://localhost:8080", "http://127.0.0.1:8080/v1"])
def test_a_node_is_not_attached_to_itself(run: Run, home: Home, url: str) -> None:
    told = run("start", "--home", home.path, "--api", "127.0.0.1:8080", "--backend", url)
    assert told.exit_code == 2
    assert told.is_one_line("--backend", "this node itself", "--api")
    assert not home.path.exists()


def test_a_key_that_cannot_be_read_is_named_and_kept(run: Run, home: Home) -> None:
    home.create()
    home.node_key.write_text("not a key")
    told = run("start", "--home", home.path)
    assert told.exit_code == 1
    assert told.is_one_line("node.key")
    assert home.node_key.read_text() == "not a key"


def test_a_full_disk_is_one_line(run: Run, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(_descriptor: int) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    told = run("start", "--home", home.path)
    assert told.exit_code == 1
    assert told.is_one_line("No space left on device")


def test_a_home_that_cannot_be_made_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = run("start", "--home", tmp_path / "file" / "home")
    assert told.exit_code == 1
    assert told.is_one_line("cannot use", "--home")


def test_a_setting_nobody_knows_is_one_line(run: Run, home: Home) -> None:
    home.create()
    home.config_file.write_text("slotz = 1\n")
    told = run("start", "--home", home.path)
    assert told.exit_code == 1
    assert told.is_one_line("slotz", "config.toml")


def test_a_token_is_alone_on_the_last_line(run: Run, home: Home) -> None:
    token = new_token(run, home)
    assert token.startswith("lnode1")
    for command in ("new", "show"):
        again = run("token", command, "--home", home.path, "--listen", "/ip4/127.0.0.1/tcp/0")
        assert again == (0, f"{token}\n", "")


def test_a_token_with_one_address_can_be_sent_in_a_message(run: Run, home: Home) -> None:
    assert len(new_token(run, home)) <= 350


def test_a_home_without_a_swarm_has_no_token_to_show(run: Run, home: Home) -> None:
    for command in ("show", "invite"):
        told = run("token", command, "--home", home.path)
        assert told.exit_code == 2
        assert told.is_one_line("in no swarm yet")
    assert not home.path.exists()


def test_an_invite_says_what_it_gives_and_for_how_long(run: Run, home: Home) -> None:
    new_token(run, home)
    told = run("token", "invite", "--home", home.path, "--role", "client", "--expires", "1h")
    shown = run("token", "inspect", told.out.strip())
    assert "role       client" in shown.out
    assert "expires    20" in shown.out
    assert "(over)" not in shown.out


@pytest.mark.parametrize(
    ("expires_at", "words"),
    [(NEVER, "never"), (1_000_000_000, "2001-09-09T01:46:40+00:00 (over)"), (2**63 - 1, "in an age")],
)
def test_an_inspected_token_says_when_it_ends(run: Run, home: Home, expires_at: int, words: str) -> None:
    home.create()
    place = found(home)
    token = place.token(new_invite(home, place, "worker", expires_at), [])
    assert f"expires    {words}" in run("token", "inspect", token.encode()).out


def test_an_inspected_token_tells_no_secret(run: Run, home: Home) -> None:
    token = new_token(run, home)
    place = load_place(home)
    assert place is not None
    assert place.invite is not None
    shown = run("token", "inspect", token)
    assert "swarm      home" in shown.out
    assert "/ip4/127.0.0.1/tcp/" in shown.out
    secrets = [place.secret, place.invite.key.seed, Identity.load(home.founder_key).seed]
    assert not any(secret.hex() in shown.out or repr(secret)[2:-1] in shown.out for secret in secrets)
    assert token[6:40] not in shown.out + shown.err


def test_models_of_a_home_without_a_node_can_be_listed_added_and_removed(
    run: Run, home: Home, tmp_path: Path
) -> None:
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF\3\0\0\0" + bytes(16) + bytes(100))
    assert run("models", "add", file, "--home", home.path).out == (
        "tiny will be served when this node starts\n"
    )
    assert run("models", "ls", "--home", home.path).out == "tiny\n"
    assert run("models", "rm", "tiny", "--home", home.path).out.startswith("tiny is not served any more\n")
    assert run("models", "ls", "--home", home.path).out == ""
    assert file.exists()


@pytest.mark.parametrize("content", [None, b"", b"PK\3\4", b"GGUF\3\0\0\0"])
def test_a_bad_model_file_is_one_line(run: Run, home: Home, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "tiny.gguf"
    if content is not None:
        file.write_bytes(content)
    told = run("models", "add", file, "--home", home.path)
    assert told.exit_code == 1
    assert told.is_one_line("tiny.gguf")


def test_an_unknown_model_cannot_be_removed(run: Run, home: Home) -> None:
    told = run("models", "rm", "gpt-5", "--home", home.path)
    assert told.exit_code == 1
    assert told.is_one_line("gpt-5")


THEN_TELL_WHAT_WAS_IMPORTED = """
import json, sys
from node.cli import main
main(sys.argv[1:])
print("\\n" + json.dumps(list(sys.modules)))
"""


@pytest.mark.parametrize(
    "command",
    ["status", "drain", "leave", "chat", "models ls", "token show", "token inspect lnode1x", "doctor --help"],
)
def test_a_command_that_runs_no_node_imports_nothing_heavy(tmp_path: Path, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", THEN_TELL_WHAT_WAS_IMPORTED, *command.split()],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, HOME_VARIABLE: str(tmp_path)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout.splitlines()[-1])) & HEAVY == set()


def test_the_program_exits_with_its_code(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "node", "status", "--home", tmp_path],
        capture_output=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == b""


def test_a_file_whose_path_is_no_text_is_refused(run: Run, home: Home) -> None:
    told = run("models", "add", "caf\udce9.gguf", "--home", home.path)
    assert told.exit_code == 2
    assert told.is_one_line("rename the file")


@pytest.mark.parametrize(
    "command",
    [
        *("status", "chat", "drain", "leave", "doctor", "models ls", "models rm tiny"),
        *("token show", "token invite", "join", "join --token nonsense"),
    ],
)
def test_a_mistyped_home_is_not_made(run: Run, home: Home, command: str) -> None:
    run(*command.split(), "--home", home.path)
    assert not home.path.exists()


def test_an_empty_key_is_refused(run: Run, home: Home) -> None:
    told = run("start", "--home", home.path, "--api-key", "")
    assert told.exit_code == 2
    assert told.is_one_line("--api-key", "not empty")
    assert not home.path.exists()


def test_models_of_nodes_with_one_name_are_told_apart(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    model = {"name": "tiny", "state": "loaded"}
    nodes = [
        {"id": f"12D3KooW{end}", "name": "laptop\x1b", "state": "online", "models": [model]}
        for end in ("aaaaaa", "bbbbbb")
    ]
    monkeypatch.setattr("node.commands.models.ask", lambda *_: {"nodes": nodes, "placements": []})
    assert run("models", "ls").out == "tiny  laptop? ...aaaaaa (loaded), laptop? ...bbbbbb (loaded)\n"


PLACEMENT = {
    "model": "tiny",
    "replicas": 2,
    "nodes": [],
    "is_everywhere": False,
    "planned": ["a", "b"],
    "held": ["a"],
    "problem": "",
}


def placed_swarm(*, takes_in: int, problem: str = "") -> dict[str, Any]:
    models = [{"name": "tiny", "state": "fetching", "fetched_fraction": 0.421, "is_placed": True}]
    nodes = [
        {"id": "a", "name": "attic", "state": "offline", "models": models, "models_size_max": takes_in},
        {"id": "b", "name": "cellar", "state": "online", "models": models, "models_size_max": takes_in},
    ]
    return {"nodes": nodes, "placements": [{**PLACEMENT, "problem": problem}]}


def test_models_say_how_far_they_are_and_where_they_are_wanted(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.commands.models.ask", lambda *_: placed_swarm(takes_in=1))
    assert run("models", "ls").out == ("tiny  cellar (fetching 42%, placed)  wanted in 2 copies, held by 1\n")


def test_a_wanted_model_that_nobody_has_is_listed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.commands.models.ask", lambda *_: {**placed_swarm(takes_in=1), "nodes": []})
    assert run("models", "ls").out.startswith("tiny  on no node that is here  wanted in 2 copies")


@pytest.mark.parametrize("takes_in", [0, 1])
def test_placing_tells_the_plan_and_what_is_missing_for_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, takes_in: int
) -> None:
    asked: dict[str, Any] = {}

    def ask(_: Home, command: str, **arguments: object) -> dict[str, Any]:
        asked.update(arguments, command=command)
        return placed_swarm(takes_in=takes_in, problem="b takes no models in")

    monkeypatch.setattr("node.commands.place.ask", ask)
    told = run("models", "place", "tiny", "--on", "attic", "--on", "gpu")
    assert asked == {
        "command": "models.place",
        "name": "tiny",
        "replicas": 0,
        "on": ["attic", "gpu"],
        "everywhere": False,
    }
    line = "tiny  wanted in 2 copies  planned: attic, cellar (not there yet)  held: attic (offline)\n"
    assert told.out == line
    assert "warning: tiny is wanted in 2 copies, but cellar takes no models in\n" in told.err
    assert ("--accept-models" in told.err) == (takes_in == 0)
    assert run("models", "placements").out.startswith(line)


def test_jobs_show_what_other_nodes_fetch_from_here(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = [
        {"peer": "b", "name": "two", "size_bytes": 50_300_000, "is_running": True},
        {"peer": "c", "name": "three\x1b", "size_bytes": 999, "is_running": False},
    ]
    monkeypatch.setattr("node.commands.pull.ask", lambda *_: {"jobs": [], "uploads": uploads})
    assert run("models", "jobs").out == "uploading to two: 50.3 MB\nuploaded to three?: 999 B\n"


def test_jobs_show_the_warnings_of_what_is_under_way(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    warned = Job(JobId("a1"), "install", "big", state="running", step="fetching", warnings=("too large\x1b",))
    over = Job(JobId("b2"), "install", "old", state="cancelled", warnings=("too large",))
    shown = {"jobs": [warned.as_map(), over.as_map()], "uploads": []}
    monkeypatch.setattr("node.commands.pull.ask", lambda *_: shown)
    assert run("models", "jobs").out == (
        "a1  running    big  fetching\nwarning: too large?\nb2  cancelled  old  cancelled\n"
    )


def test_in_a_log_a_job_takes_a_line_for_each_state_and_each_tenth_and_every_warning_is_told(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(JobId("a1"), "install", "tiny", size_bytes=100)
    looks = [
        *[job] * 3,
        replace(job, state="running", step="fetching", warnings=("it is large",)),
        replace(job, state="running", step="fetching", done_bytes=9, warnings=("it is large", "large")),
        replace(job, state="running", step="fetching", done_bytes=10),
        replace(job, state="done", done_bytes=100),
    ]
    seen = iter(looks)
    monkeypatch.setattr("node.commands.pull.ask", lambda *_, **__: next(seen).as_map())
    monkeypatch.setattr("node.commands.pull._LOOK_INTERVAL", 0.0)
    lines = run("models", "pull", "tiny").err.splitlines()
    assert [line for line in lines if line.startswith("warning")] == [
        "warning: it is large",
        "warning: large",
    ]
    told = [line for line in lines if not line.startswith("warning")]
    assert ["%" in line and line.split("%")[0].split()[-1] for line in told] == ["0", "0", "10", "100"]


@pytest.mark.parametrize(
    ("kind", "told"), [("install", ""), ("load", ": the model is loaded once"), ("hash", ": it goes on")]
)
def test_who_cancels_a_job_is_told_what_becomes_of_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, kind: Any, told: str
) -> None:
    answers = {"job": Job(JobId("a1"), kind, "tiny").as_map(), "job.cancel": True}
    monkeypatch.setattr("node.commands.pull.ask", lambda _, command, **__: answers[command])
    out = run("models", "cancel", "a1").out
    assert out.startswith(f"job a1 is cancelled{told}")
    assert (out == "job a1 is cancelled\n") == (not told)


def pulled(run: Run, monkeypatch: pytest.MonkeyPatch, job: Job) -> Told:
    monkeypatch.setattr("node.commands.pull.ask", lambda *_, **__: job.as_map())
    return run("models", "pull", "tiny")


def test_why_a_pull_failed_is_said_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    told = pulled(run, monkeypatch, Job(JobId("a1"), "install", "tiny", state="failed", reason="no room"))
    assert (told.exit_code, told.out, told.err) == (1, "", "localai-node: no room\n")


def test_who_pulls_what_is_here_is_told_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pulled(run, monkeypatch, Job(JobId("a1"), "install", "tiny", state="done")).out == (
        "tiny is here already\n"
    )
    came = Job(JobId("a1"), "install", "tiny", state="done", size_bytes=9, sources={"one": 9})
    assert pulled(run, monkeypatch, came).out == "tiny is served from now on (from one)\n"


def test_a_file_to_pull_is_the_one_in_the_folder_of_who_pulls_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def answer(_: Home, command: str, **arguments: Any) -> dict[str, Any]:
        if command == "models.pull":
            asked.append(arguments["reference"])
        return Job(JobId("a1"), "install", "tiny", state="done").as_map()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("node.commands.pull.ask", answer)
    for reference in ("tiny.gguf", "./tiny.yaml", "demo", "qwen"):
        assert run("models", "pull", reference).exit_code == 0
    assert asked == [str(tmp_path / "tiny.gguf"), str(tmp_path / "tiny.yaml"), "demo", "qwen"]


@pytest.mark.parametrize(
    "reference", ["", "hf://bartowski", "ftp://example.org/tiny.gguf", "~no-such-person/tiny.gguf"]
)
def test_what_names_no_model_is_refused_before_a_node_is_asked(run: Run, reference: str) -> None:
    told = run("models", "pull", reference)
    assert told.exit_code == 2
    assert told.err.startswith("localai-node: ")


def test_a_token_file_that_is_not_there_is_told_without_numbers(run: Run, home: Home) -> None:
    told = run("join", "--token-file", home.path / "none", "--home", home.path)
    assert told.err == (
        f"localai-node: cannot read a token from {home.path / 'none'}: No such file or directory\n"
    )


def test_a_progress_line_fits_the_terminal_it_is_written_over_in(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    came = Job(JobId("a1"), "install", "tiny", state="done", size_bytes=9, done_bytes=9, sources={"one": 9})
    line = pulled(run, monkeypatch, came).err
    assert line == "\r\x1b[Ktiny  100%  9 B of 9 B  from one 9 B\n"
