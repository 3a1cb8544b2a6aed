"""The style this project holds to, as far as a test can see it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("p2p", "ledger", "federation", "api", "node")
FUNCTION_LINES_MAX = 70
"""A function that does not fit on a screen is two."""
MODULE_LINES_MAX = 400
"""Three hundred is the aim; over four hundred a file has a second subject."""


def modules(*folders: str) -> Iterator[tuple[str, str, ast.Module]]:
    for folder in folders or FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "node_modules" not in path.parts:
                text = path.read_text(encoding="utf-8")
                yield path.relative_to(ROOT).as_posix(), text, ast.parse(text)


def calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for call in ast.walk(tree):
        if isinstance(call, ast.Call):
            yield call.lineno, ast.unparse(call.func)


def test_every_module_says_what_it_is() -> None:
    assert [name for name, _, tree in modules() if not ast.get_docstring(tree)] == []


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{name}:{function.lineno} {function.name}"
        for name, _, tree in modules()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        and (function.end_lineno or 0) - function.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_no_module_has_a_second_subject() -> None:
    assert [name for name, text, _ in modules() if text.count("\n") > MODULE_LINES_MAX] == []


def test_no_task_is_without_an_owner() -> None:
    strays = [
        f"{name}:{line}"
        for name, _, tree in modules()
        for line, call in calls(tree)
        if "spawn_system_task" in call
    ]
    assert strays == []


def test_nothing_blocks_the_loop_to_wait() -> None:
    """`time.sleep` stalls every stream of the node; yamux drops those that wait five seconds."""
    strays = [
        f"{name}:{line}"
        for name, _, tree in modules()
        if not name.startswith("node/commands/")  # A command that only asks a node has no loop to block.
        for line, call in calls(tree)
        if call == "time.sleep"
    ]
    assert strays == []


def test_nothing_is_caught_and_forgotten() -> None:
    forgotten = [
        f"{name}:{handler.lineno}"
        for name, _, tree in modules()
        for handler in ast.walk(tree)
        if isinstance(handler, ast.ExceptHandler)
        and (handler.type is None or ast.unparse(handler.type) in ("Exception", "BaseException"))
        and all(isinstance(statement, ast.Pass) for statement in handler.body)
    ]
    assert forgotten == []


def test_no_test_waits_on_the_real_clock() -> None:
    """A sleep is either too short on a busy machine or too long on every other.

    Where all is in memory tests run under trio's MockClock, where a sleep is how time passes and takes none.
    """
    real = ("tests/real/", "tests/contract/", "tests/bench/")
    sleeps = [
        f"{name}:{line}"
        for name, text, _ in modules("tests")
        for line, content in enumerate(text.splitlines(), 1)
        if re.search(r"\btime\.sleep\(", content)
        or (name.startswith(real) and re.search(r"\btrio\.sleep\(\s*[0-9.]*[1-9]", content))
    ]
    assert sleeps == []


def test_nothing_is_left_for_later() -> None:
    markers = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    left = [
        f"{name}:{line}"
        for name, text, _ in modules(*FOLDERS, "tests", "examples")
        for line, content in enumerate(text.splitlines(), 1)
        if markers.search(content) and name != "tests/test_tidy.py"
    ]
    assert left == []


def test_tests_and_examples_are_no_packages() -> None:
    """libp2p's wheel installs a top-level package `examples`: ours must never be imported by name."""
    assert [
        str(path) for folder in ("tests", "examples") for path in (ROOT / folder).rglob("__init__.py")
    ] == []
