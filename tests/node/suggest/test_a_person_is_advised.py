"""`models suggest` and `models available`: answered by the node that runs, or for this machine alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from ledger.records import Load, ModelName, ModelRecord
from ledger.view import NodeView
from node.cli import main
from node.control import ask
from node.control_commands import ControlCommands
from node.control_server import serve_control
from node.errors import CommandRefused
from node.home import Home
from node.models.demo_model import DEMO_MODEL_SHA256
from node.suggest.adviser import Adviser
from node.suggest.look import look_at_swarm
from p2p.peer import PeerId
from tests.node.suggest.swarm import parts_with, worker_with

EXAMPLE = Path(__file__).parents[3] / "examples" / "gallery.yaml"
NOBODY = "nobody=http://127.0.0.1:9/index.yaml"
"""Where no server is: port 9 is for what is thrown away."""
DEMO = "smollm2-135m-instruct"
GIB = 2**30
ME, CELLAR = PeerId("me-id"), PeerId("cellar-id")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def run(home: Home, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["models", *map(str, arguments), "--home", str(home.path)])
        return code, *capsys.readouterr()

    return run


def row(peer: PeerId, name: str, *models: ModelRecord, gib: int = 16, **loads: Load) -> NodeView:
    return NodeView(
        peer,
        name,
        "online",
        "worker",
        "0.1.0",
        models=models,
        loads={ModelName(model): load for model, load in loads.items()},
        hardware={"memory_bytes": gib * GIB},
    )


SWARM = [
    row(
        CELLAR,
        "cellar",
        ModelRecord(ModelName("theirs"), "loaded", size_bytes=98_000_000, sha256=DEMO_MODEL_SHA256),
        gib=64,
        theirs=Load(4, 0, decode_speed=70.0),
    ),
    row(ME, "desk"),
]


def asked(home: Home, command: str, galleries: list[str], **arguments: Any) -> Mapping[str, Any]:
    """What the node in `home`, with the example's gallery and that swarm, answers to `command`."""
    home.create()
    answers = []

    async def look() -> Any:
        return await look_at_swarm(SWARM, ME, worker_with(budget=4 * GIB, used=GIB), home.models)

    async def with_node() -> None:
        adviser = Adviser([str(EXAMPLE)], home.galleries, look)
        commands = ControlCommands(parts_with(adviser), None, "", None)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_control, home, commands.handlers())
            answers.append(
                await trio.to_thread.run_sync(
                    lambda: ask(home, command, timeout=30, galleries=galleries, **arguments)
                )
            )
            nursery.cancel_scope.cancel()

    try:
        trio.run(with_node)
    except* CommandRefused as group:
        raise group.exceptions[0] from None
    return answers[0]  # type: ignore[no-any-return]


def suggested(home: Home, purpose: str = "chat", *galleries: str) -> Mapping[str, Any]:
    return asked(home, "models.suggest", list(galleries), purpose=purpose, is_all=True)


def test_a_running_node_answers_for_the_whole_swarm(home: Home) -> None:
    advice = suggested(home)
    demo, mixture = advice["suggestions"]
    assert (mixture["name"], mixture["node"], mixture["size_is_estimate"]) == (
        "example-30b-a3b",
        "cellar",
        True,
    )
    assert [each["node"] for each in mixture["nodes"]] == ["cellar"], "4 GiB are too few here"
    assert (demo["name"], demo["holders"], demo["size_bytes"]) == (DEMO, ["cellar"], 98_000_000)
    assert (demo["node"], demo["tokens_per_second"]) == ("cellar", 70.0)
    assert {each["node"] for each in demo["nodes"]} == {"cellar", "desk"}
    (ourselves,) = [machine for machine in advice["machines"] if machine["is_self"]]
    assert (ourselves["name"], ourselves["budget_bytes"], ourselves["free_bytes"]) == (
        "desk",
        4 * GIB,
        3 * GIB,
    )


def test_a_running_node_says_what_there_is_and_who_has_it(home: Home) -> None:
    found = asked(home, "models.available", [], text="smollm2")
    assert [(each["name"], each["holders"]) for each in found["models"]] == [(DEMO, ["cellar"])]


def test_other_galleries_can_be_looked_into(home: Home, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(
        "- {name: m, size: 1GB, files: [{filename: m.gguf, uri: 'https://example.org/m.gguf'}]}\n"
    )
    assert [each["name"] for each in suggested(home, "chat", f"mine={other}")["suggestions"]] == ["m"]


def test_a_gallery_that_nobody_gives_is_refused_with_what_can_be_done(home: Home) -> None:
    with pytest.raises(CommandRefused, match=r"models add demo.*--gallery FILE"):
        suggested(home, "chat", NOBODY)


def test_without_a_node_it_is_about_this_machine(run: Run, home: Home) -> None:
    code, out, err = run("suggest", "--gallery", EXAMPLE, "--json")
    advice = json.loads(out)
    assert code == 0
    assert "this machine alone" in err
    assert [(each["is_self"], each["measured"]) for each in advice["machines"]] == [(True, [])]
    assert DEMO in [each["name"] for each in advice["suggestions"]]
    assert all(each["tokens_per_second"] is None for each in advice["suggestions"])
    assert not home.path.exists(), "asking makes no home"


def test_a_model_of_the_home_is_known_to_be_there(run: Run) -> None:
    assert run("add", "demo")[0] == 0
    _, out, _ = run("available", "bundled", "--gallery", EXAMPLE)
    assert is_there(out)
    _, out, _ = run("suggest", "--gallery", EXAMPLE)
    assert "it can be asked for once a node runs" in out
    assert "an estimate" not in out.split(DEMO)[1].split("\n\n")[0], "its file is there: its size is known"


def is_there(out: str) -> bool:
    """Whether the one line says that somebody has the demo model."""
    return out.startswith(f"{DEMO}  apache-2.0  llm, gguf, chat  on ") and out.count("\n") == 1


@pytest.mark.parametrize("purpose", ["chat", "embeddings", "rerank"])
def test_only_models_for_the_purpose_are_told(run: Run, purpose: str) -> None:
    names = {"chat": {DEMO, "example-30b-a3b"}, "embeddings": {"example-embeddings"}, "rerank": set()}
    code, out, _ = run("suggest", "--for", purpose, "--all", "--gallery", EXAMPLE, "--json")
    advice = json.loads(out)
    rows = [each for key in ("suggestions", "too_large", "unknown") for each in advice[key]]
    assert (code, {each["name"] for each in rows}) == (0, names[purpose])


@pytest.mark.parametrize("command", ["suggest", "available"])
def test_without_network_or_copy_it_says_what_to_do(run: Run, home: Home, command: str) -> None:
    code, out, err = run(command, "--gallery", NOBODY)
    assert (code, out) == (1, "")
    assert "models add demo" in err
    assert "--gallery FILE" in err
    assert not home.path.exists()


def test_a_gallery_file_that_is_not_there_is_named(run: Run, tmp_path: Path) -> None:
    code, _, err = run("suggest", "--gallery", tmp_path / "none.yaml")
    assert code == 1
    assert "none.yaml cannot be read" in err


def test_what_is_no_gallery_is_wrong_use(run: Run) -> None:
    assert run("available", "--gallery", "no gallery")[0] == 2


def test_the_gallery_of_the_config_file_is_used(run: Run, home: Home) -> None:
    home.create()
    home.config_file.write_text(f"gallery = [{str(EXAMPLE)!r}]\n")
    code, out, _ = run("available")
    assert (code, out.count("\n")) == (0, 3)


def test_what_a_gallery_left_out_is_a_warning(run: Run, tmp_path: Path) -> None:
    gallery = tmp_path / "mine.yaml"
    gallery.write_text("- {name: m}\n- {name: 'a@b'}\n")
    code, out, err = run("available", "--gallery", gallery)
    assert (code, out) == (0, "m  no licence stated\n")
    assert "warning: gallery 'mine': model 2 (a@b) is left out" in err


def test_only_a_gallery_of_the_command_line_replaces_those_of_the_node(
    run: Run, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.create()
    home.config_file.write_text("gallery = ['/elsewhere.yaml']\n")
    sent: list[list[str]] = []

    def answer(*_: object, galleries: list[str], **__: object) -> Mapping[str, Any]:
        sent.append(galleries)
        return {"models": [], "left_out": 0, "warnings": ["one\x1b"]}

    monkeypatch.setattr("node.commands.advice.ask", answer)
    monkeypatch.chdir(EXAMPLE.parent)
    _, _, err = run("available")
    run("available", "--gallery", "./gallery.yaml")
    assert sent == [[], [f"gallery={EXAMPLE}"]]
    assert "warning: one?" in err
