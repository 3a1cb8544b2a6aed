"""Commands find the node of a home and are answered; whoever breaks the exchange hurts only itself."""

from __future__ import annotations

import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

import node.control_server
from node.control import FRAME_SIZE_MAX, ask
from node.control_server import Handler, serve_control
from node.errors import CommandRefused, NoAnswer, NodeError, NotRunning
from node.home import Home
from node.models.errors import NotGguf
from p2p.frame_stream import FrameStream

PATIENCE = 20.0
"""Seconds until a test that hangs is called one."""

needs_unix_sockets = pytest.mark.skipif(
    not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets here"
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


@pytest.fixture
def far_home(tmp_path: Path) -> Home:
    """One whose path no Unix socket can have."""
    home = Home(tmp_path / ("long" * 20) / ("longer" * 20))
    home.create()
    return home


class Commands:
    """What the node of these tests can do."""

    def __init__(self) -> None:
        self.is_in_hang = trio.Event()
        self.may_end = trio.Event()
        self.ended = trio.Event()

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "echo": self.echo,
            "refuse": self.refuse,
            "bad_model": self.bad_model,
            "break": self.crash,
            "huge": self.huge,
            "hang": self.hang,
        }

    async def echo(self, arguments: Mapping[str, Any]) -> Any:
        return arguments

    async def refuse(self, _: Mapping[str, Any]) -> Any:
        raise NodeError("not now")

    async def bad_model(self, _: Mapping[str, Any]) -> Any:
        raise NotGguf("tiny.gguf is not a GGUF file")

    async def crash(self, arguments: Mapping[str, Any]) -> Any:
        return arguments["what nobody sent"]

    async def huge(self, _: Mapping[str, Any]) -> Any:
        return "x" * FRAME_SIZE_MAX

    async def hang(self, _: Mapping[str, Any]) -> Any:
        self.is_in_hang.set()
        await self.may_end.wait()
        self.ended.set()


@asynccontextmanager
async def a_node_in(home: Home) -> AsyncIterator[Commands]:
    commands = Commands()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_control, home, commands.handlers())
            yield commands
            nursery.cancel_scope.cancel()


async def asked(home: Home, command: str, **arguments: Any) -> Any:
    """What a command of another process gets."""
    return await trio.to_thread.run_sync(partial(ask, home, command, **arguments))


def is_served_over(home: Home) -> str:
    return home.control_file.read_text().split(" ")[0]


@asynccontextmanager
async def connection_to(home: Home) -> AsyncIterator[trio.SocketStream]:
    _, path = home.control_file.read_text().split(" ", 1)
    async with await trio.open_unix_socket(path) as stream:
        yield stream


async def has_ended(stream: trio.SocketStream) -> bool:
    """Whether the node closed `stream` without a word."""
    try:
        return await stream.receive_some(1) == b""
    except trio.BrokenResourceError:
        return True


async def check_exchange(home: Home) -> None:
    arguments = {"text": "ä", "number": 7, "list": [1, None, True]}
    assert await asked(home, "echo", **arguments) == arguments


def test_a_command_is_answered(home: Home) -> None:
    async def main() -> None:
        async with a_node_in(home):
            await check_exchange(home)

    trio.run(main)


@needs_unix_sockets
def test_a_home_with_a_long_path_is_found_all_the_same(far_home: Home) -> None:
    async def main() -> None:
        async with a_node_in(far_home):
            await check_exchange(far_home)
            assert is_served_over(far_home) == "unix"

    trio.run(main)


@needs_unix_sockets
def test_homes_with_long_paths_are_told_apart(far_home: Home) -> None:
    sibling = Home(far_home.path.with_name(far_home.path.name + "2"))
    sibling.create()

    async def main() -> None:
        async with a_node_in(far_home) as one, a_node_in(sibling), trio.open_nursery() as nursery:
            nursery.start_soon(asked, far_home, "hang")
            await one.is_in_hang.wait()
            await check_exchange(sibling)
            one.may_end.set()

    trio.run(main)


@needs_unix_sockets
def test_only_its_owner_can_reach_the_socket(home: Home, far_home: Home) -> None:
    async def main() -> None:
        for each in (home, far_home):
            async with a_node_in(each):
                path = Path(each.control_file.read_text().split(" ", 1)[1])
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
                assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    trio.run(main)


def without_unix_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, for the node; trio needs its own."""
    monkeypatch.setattr(node.control_server, "socket", SimpleNamespace())


def test_without_unix_sockets_a_port_and_a_cookie_do(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    without_unix_sockets(monkeypatch)

    async def main() -> None:
        async with a_node_in(home):
            assert is_served_over(home) == "tcp"
            await check_exchange(home)

    trio.run(main)


@needs_unix_sockets
def test_where_no_socket_can_be_made_a_port_and_a_cookie_do(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_home: Home) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(node.control_server, "_listen_unix", refuse)

    async def main() -> None:
        async with a_node_in(home):
            assert is_served_over(home) == "tcp"
            await check_exchange(home)

    trio.run(main)


@pytest.mark.parametrize("cookie", ["", "0" * 32, "kein Schlüssel", None])
def test_over_tcp_nobody_is_answered_without_the_cookie(
    home: Home, monkeypatch: pytest.MonkeyPatch, cookie: object
) -> None:
    without_unix_sockets(monkeypatch)

    async def main() -> None:
        async with a_node_in(home):
            port = int(home.control_file.read_text().split(" ")[1])
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with FrameStream(stream, FRAME_SIZE_MAX) as frames:
                await frames.send({"command": "echo", "arguments": {}, "cookie": cookie})
                assert await frames.receive() is None

    trio.run(main)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("refuse", "not now"),
        ("bad_model", r"tiny\.gguf is not a GGUF file"),
        ("fly", "does not know the command 'fly'"),
        ("huge", "the answer is too large"),
    ],
)
def test_a_caller_hears_why_not(home: Home, command: str, reason: str) -> None:
    async def main() -> None:
        async with a_node_in(home):
            with pytest.raises(CommandRefused, match=reason):
                await asked(home, command)

    trio.run(main)


def test_a_command_that_fails_does_not_end_the_node(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with a_node_in(home):
            with pytest.raises(CommandRefused, match="its log says how"):
                await asked(home, "break")
            await check_exchange(home)

    trio.run(main)
    assert "the command 'break' failed" in caplog.text


def test_nobody_there_is_said_so(home: Home, tmp_path: Path) -> None:
    for empty in (home, Home(tmp_path / "never made")):
        with pytest.raises(NotRunning, match=r"no node runs in .*; start one with `localai-node start`"):
            ask(empty, "echo")


@pytest.mark.parametrize("text", ["", "unix", "unix /nowhere", "tcp x y", "tcp 1", "\0", "smoke signals"])
def test_what_a_dead_node_left_behind_is_nobody(home: Home, text: str) -> None:
    home.control_file.write_text(text)
    with pytest.raises(NotRunning):
        ask(home, "echo")


def test_a_node_leaves_nothing_of_its_socket(home: Home) -> None:
    async def main() -> None:
        async with a_node_in(home):
            assert any(home.run.iterdir())
        assert list(home.run.iterdir()) == []

    trio.run(main)


@needs_unix_sockets
def test_the_socket_of_a_killed_node_is_replaced(home: Home) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home.run / "control.sock"))

    async def main() -> None:
        async with a_node_in(home):
            await check_exchange(home)

    trio.run(main)


def test_a_node_that_is_silent_is_not_called_absent(home: Home) -> None:
    async def main() -> None:
        async with a_node_in(home) as commands:
            with pytest.raises(NoAnswer, match=r"did not answer within 0\.05 s"):
                await asked(home, "hang", timeout=0.05)
            commands.may_end.set()

    trio.run(main)


def test_a_node_that_ends_before_it_answers_is_not_called_absent(home: Home) -> None:
    async def main() -> None:
        async def ask_in_vain() -> None:
            with pytest.raises(NoAnswer, match="went away before it answered"):
                await asked(home, "hang")

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as callers, a_node_in(home) as commands:
                callers.start_soon(ask_in_vain)
                await commands.is_in_hang.wait()

    trio.run(main)


@needs_unix_sockets
def test_a_command_goes_on_when_its_caller_went_away(home: Home) -> None:
    async def main() -> None:
        async with a_node_in(home) as commands:
            async with connection_to(home) as stream:
                frames = FrameStream(stream, FRAME_SIZE_MAX)
                await frames.send({"command": "hang", "arguments": {}, "cookie": ""})
                await commands.is_in_hang.wait()
            commands.may_end.set()
            await commands.ended.wait()
            await check_exchange(home)

    trio.run(main)


@needs_unix_sockets
def test_a_caller_that_asks_nothing_is_dropped(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node.control_server, "_ASK_TIMEOUT", 0.05)

    async def main() -> None:
        async with a_node_in(home), connection_to(home) as stream:
            assert await has_ended(stream)
            await check_exchange(home)

    trio.run(main)


@needs_unix_sockets
@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x01\x90",
        b"\0\0\0\x01\x80",
        b"\0\0\0\x05\x81",
    ],
)
def test_garbage_closes_its_own_connection_only(home: Home, garbage: bytes) -> None:
    async def main() -> None:
        async with a_node_in(home), connection_to(home) as stream:
            await stream.send_all(garbage)
            await stream.send_eof()
            assert await has_ended(stream)
            await check_exchange(home)

    trio.run(main)


@needs_unix_sockets
def test_a_crowd_of_callers_is_turned_away_and_not_for_ever(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.control_server, "_CALLERS_MAX", 1)

    async def main() -> None:
        async with a_node_in(home) as commands:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(asked, home, "hang")
                await commands.is_in_hang.wait()
                async with connection_to(home) as stream:
                    assert await has_ended(stream)
                commands.may_end.set()
            await check_exchange(home)

    trio.run(main)


def test_the_folder_for_short_paths_is_not_shared(
    far_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's folder of our name is not used: a port and a cookie do instead."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setattr("os.getuid", lambda: 12345, raising=False)

        async def main() -> None:
            async with a_node_in(far_home):
                assert is_served_over(far_home) == "tcp"
                await check_exchange(far_home)

        trio.run(main)
