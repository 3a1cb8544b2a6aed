"""The demo shows a death that nobody notices, and however it ends, nothing of it is left."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import psutil
import pytest
import trio

import node.demo
from node.demo import run_demo
from node.demo_nodes import DemoNode
from node.errors import NodeError
from node.run_trio import run_trio
from tests.real.swarm_processes import is_running

pytestmark = pytest.mark.real

PATIENCE = 100.0
"""Seconds for a demo to run to its end: less than ten on a quiet machine."""
DEATH_TIMEOUT = 20.0
"""Seconds for nodes to find out that their demo is gone; one that starts looks only once it is up."""
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="there are no signals to send")


@contextmanager
def running_demo(folder: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """A demo whose temporary folder is in `folder`."""
    with subprocess.Popen(
        [sys.executable, "-m", "node", "demo", *flags],
        env={**os.environ, "TMPDIR": str(folder), "TEMP": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        try:
            yield demo
        finally:
            demo.kill()


def read_until(demo: subprocess.Popen[str], said: str) -> str:
    """The line with `said` in it, once the demo has printed it."""
    assert demo.stdout is not None
    for line in demo.stdout:
        if said in line:
            return line
    raise AssertionError(f"the demo ended without {said!r}")


def homes_in(folder: Path) -> list[Path]:
    """The temporary folders of demos, which hold keys."""
    return list(folder.glob("localai-node-demo-*"))


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every process of a demo in `folder`, whoever its parent is by now: they have all inherited that."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in process.environ().values():
                found.append(process)
        except psutil.Error:
            continue
    return found


def assert_nothing_runs(processes: list[psutil.Process]) -> None:
    _, left = psutil.wait_procs(processes, timeout=DEATH_TIMEOUT)
    assert [process.cmdline() for process in left if is_running(process)] == []


def test_a_demo_shows_two_answers_and_a_death_between_them(tmp_path: Path) -> None:
    with running_demo(tmp_path, "--once") as demo:
        out, err = demo.communicate(timeout=PATIENCE)
        assert demo.returncode == 0, err
    assert "The capital of France is Paris." in out
    assert re.search(r"> Name three colours\.\n.*\w.*\n", out)
    first, second = re.findall(r"\(answered by (\w+)\)", out)
    assert first in ("alpha", "beta", "gamma")
    assert second in ("alpha", "beta")
    [row] = re.findall(r"^gamma .*$", out, re.MULTILINE)
    assert "online" not in row
    assert homes_in(tmp_path) == []
    assert processes_of(tmp_path) == []


@needs_signals
def test_a_demo_that_is_told_to_stop_leaves_no_process_and_no_key(tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo:
        read_until(demo, "one endpoint")
        assert homes_in(tmp_path)
        processes = [process for process in processes_of(tmp_path) if process.pid != demo.pid]
        assert len(processes) >= 6, "three nodes with an engine each"
        demo.send_signal(signal.SIGTERM)
        _, err = demo.communicate(timeout=PATIENCE)
        assert (demo.returncode, err.strip()) == (0, "the swarm is gone")
    assert homes_in(tmp_path) == []
    assert_nothing_runs(processes)


@needs_signals
def test_a_demo_that_was_to_show_something_fails_if_it_is_interrupted(tmp_path: Path) -> None:
    with running_demo(tmp_path, "--once") as demo:
        read_until(demo, "starting")
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=PATIENCE)
        assert demo.returncode == 130
    assert homes_in(tmp_path) == []
    assert processes_of(tmp_path) == []


def test_a_demo_tells_which_of_its_nodes_end_and_ends_with_the_last(tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo:
        rows = [read_until(demo, f"  {name} ").split() for name in ("alpha", "beta", "gamma")]
        for name, _, pid, _, home in rows:
            assert Path(home).is_relative_to(tmp_path)
            psutil.Process(int(pid)).kill()
            if name != "gamma":
                read_until(demo, f"{name} has ended; the swarm goes on")
        _, err = demo.communicate(timeout=PATIENCE)
        assert (demo.returncode, err) == (1, "localai-node: every node of the demo has ended\n")
    assert homes_in(tmp_path) == []


@needs_signals
def test_no_node_outlives_a_killed_demo(tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo:
        read_until(demo, "one endpoint")
        processes = processes_of(tmp_path)
        demo.kill()
        assert_nothing_runs(processes)


def test_a_node_that_is_not_ready_in_time_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.demo, "_READY_TIMEOUT", 0.3)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(psutil.Process().children())

    async def main() -> None:
        await run_demo(lambda _: None, once=True)

    with pytest.raises(NodeError, match="not ready within"):
        run_trio(main)
    assert set(psutil.Process().children()) <= before
    assert homes_in(tmp_path) == []


def test_what_goes_wrong_with_a_node_is_one_line(tmp_path: Path) -> None:
    async def main() -> None:
        never_started = DemoNode("alpha", tmp_path, cast("trio.Process", None), api="http://127.0.0.1:1")
        with pytest.raises(NodeError, match=r"node alpha shows no token: .*is in no swarm yet"):
            await never_started.token()
        with pytest.raises(NodeError, match=r"node alpha did not answer: ."):
            await node.demo._swarm(never_started)

    trio.run(main)


def test_the_endpoint_is_the_usual_one_unless_another_program_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        [other] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        usual = f"127.0.0.1:{other.socket.getsockname()[1]}"
        monkeypatch.setattr(node.demo, "API_DEFAULT", usual)
        assert await node.demo._endpoint() == "127.0.0.1:0"
        await other.aclose()
        assert await node.demo._endpoint() == usual

    trio.run(main)


def test_the_line_to_paste_leaves_the_answer_to_no_chance() -> None:
    command, url, *_, body = shlex.split(node.demo._curl("http://127.0.0.1:8080"))
    assert (command, url) == ("curl", "http://127.0.0.1:8080/v1/chat/completions")
    asked = json.loads(body)
    assert asked["temperature"] == 0
    assert asked["messages"] == [{"role": "user", "content": "What is the capital of France?"}]
