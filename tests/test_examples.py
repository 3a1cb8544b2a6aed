"""Every example runs as it stands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from tests.real.swarm_processes import NodeProcess, NodeProcesses, serves

pytestmark = pytest.mark.real

EXAMPLES = Path(__file__).parent.parent / "examples"
LINES_MAX = 60
"""One idea fits on a screen."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcesses(tmp_path_factory.mktemp("examples")) as nodes:
        node = nodes.run("start", "node", "--model", "demo")
        node.wait_until(lambda rows: serves(rows, "node"))
        yield node


def test_chat_prints_an_answer(node: NodeProcess) -> None:
    assert run("chat.py", "What is the capital of France?", OPENAI_BASE_URL=f"{node.api}/v1").strip()


def test_langchain_gets_an_answer(node: NodeProcess) -> None:
    assert "Paris" in run("langchain_chat.py", "France", OPENAI_BASE_URL=f"{node.api}/v1")


def test_two_nodes_answer_and_leave_nothing_behind() -> None:
    # Not pytest's folder, whose path may be too long for a socket in it.
    with TemporaryDirectory() as folder:
        # Where temporary files go is also how to tell the example's processes, and theirs, from all others.
        printed = run("two_nodes.py", TMPDIR=folder, TEMP=folder, TMP=folder)
        assert "answered by" in printed
        assert list(Path(folder).iterdir()) == []
        environments = {process.pid: process.info["environ"] for process in psutil.process_iter(["environ"])}
        assert [pid for pid, environ in environments.items() if (environ or {}).get("TMP") == folder] == []


def test_every_example_is_short_and_run_by_a_test() -> None:
    lines = {path.name: path.read_text().count("\n") for path in EXAMPLES.glob("*.py")}
    assert set(lines) == {"chat.py", "langchain_chat.py", "two_nodes.py"}
    assert max(lines.values()) <= LINES_MAX


def run(example: str, *arguments: str, **environment: str) -> str:
    """What an example prints, run as its docstring says."""
    completed = subprocess.run(
        [sys.executable, str(EXAMPLES / example), *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout
