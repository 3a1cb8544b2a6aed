"""We speak libp2p, not a dialect of it: a js-libp2p peer from npm understands us.

Runs where Node.js 20 or newer and npm are; the packages are installed once, beside the script.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from p2p.errors import Unreachable
from p2p.frame_stream import FrameStream
from p2p.identity import Identity
from p2p.libp2p_network import Libp2pNetwork
from p2p.network import Connected, Disconnected
from p2p.peer import PeerAddress
from tests.echo import ECHO, echo

NODE = shutil.which("node") or ""
NPM = shutil.which("npm") or ""

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not (NODE and NPM), reason="node and npm are not installed"),
    # The first test also waits for the packages.
    pytest.mark.timeout(300),
]

SCRIPTS = Path(__file__).parent.parent / "interop_js"
PSK = bytes(range(32))
OTHER_PSK = bytes(32)
NODE_VERSION_MIN = 20
"""js-libp2p wants 22; `node20.mjs` has what 20 lacks."""
INSTALL_TIME_MAX = 180.0
"""Seconds; it takes 16 with an empty cache."""
REGISTRY_TIME_MAX = 30.0
"""Seconds for the registry's first answer; it takes one."""


@pytest.fixture(scope="module", autouse=True)
def packages() -> None:
    """The packages of package.json, installed unless they are there already."""
    version = finished([NODE, "--version"], within=REGISTRY_TIME_MAX).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < NODE_VERSION_MIN:
        pytest.skip(f"Node.js is {version}, js-libp2p needs {NODE_VERSION_MIN} or newer")
    wanted = hashlib.sha256((SCRIPTS / "package.json").read_bytes()).hexdigest()
    stamp = SCRIPTS / "node_modules" / ".installed"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    if finished([NPM, "view", "libp2p", "name", "--fetch-retries=0"], within=REGISTRY_TIME_MAX).returncode:
        pytest.skip("js-libp2p is not installed, and the npm registry cannot be reached")
    quiet = ["--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    install = finished([NPM, "install", *quiet], within=INSTALL_TIME_MAX)
    if install.returncode:
        pytest.fail(f"npm could not install js-libp2p: {install.stderr.strip()[-500:]}", pytrace=False)
    stamp.write_text(wanted, encoding="utf-8")


def finished(command: list[str], *, within: float) -> subprocess.CompletedProcess[str]:
    """What became of `command`; one that takes longer than `within` seconds has failed."""
    try:
        return subprocess.run(
            command, cwd=SCRIPTS, capture_output=True, text=True, timeout=within, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"it took over {within:.0f} s")


class JsPeer:
    """A js-libp2p peer in a process of its own."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin
        assert process.stdout
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._unread = b""
        self.address: PeerAddress

    async def have_echoed(self, address: PeerAddress) -> dict[str, Any]:
        """What it says after it dialled `address` and had a message echoed there."""
        await self._stdin.send_all(f"{address}\n".encode())
        return await self.next_fact()

    async def next_fact(self) -> dict[str, Any]:
        while b"\n" not in self._unread:
            piece = await self._stdout.receive_some()
            assert piece, "the js peer ended"
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        fact = json.loads(line)
        assert isinstance(fact, dict)
        return fact


@asynccontextmanager
async def js_peer(psk: bytes) -> AsyncIterator[JsPeer]:
    run_process = partial(trio.run_process, cwd=SCRIPTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            run_process, [NODE, "--import", "./node20.mjs", "peer.mjs", psk.hex()]
        )
        peer = JsPeer(process)
        peer.address = PeerAddress.parse((await peer.next_fact())["listen"])
        yield peer
        nursery.cancel_scope.cancel()


def run(test: Callable[[Libp2pNetwork], Awaitable[None]]) -> None:
    async def main() -> None:
        with trio.fail_after(60):
            async with Libp2pNetwork.open(
                Identity.generate(), PSK, listen=["/ip4/127.0.0.1/tcp/0"]
            ) as network:
                network.on_stream(ECHO, echo)
                await test(network)

    trio.run(main)


def test_with_the_right_key_we_dial_a_js_peer_and_it_echoes() -> None:
    async def test(network: Libp2pNetwork) -> None:
        async with js_peer(PSK) as js:
            await network.dial(js.address)
            stream = FrameStream(await network.open_stream(js.address.peer, ECHO), size_max=2**20)
            async with stream, trio.open_nursery() as nursery:
                message = {"data": bytes(1_000_000)}
                nursery.start_soon(stream.send, message)
                assert await stream.receive() == message
                await stream.send_eof()
                assert await stream.receive() is None
            await network.disconnect(js.address.peer)
            kinds = [type(await network.events.receive()) for _ in range(2)]
            assert kinds == [Connected, Disconnected]

    run(test)


def test_with_the_right_key_a_js_peer_dials_us_and_we_echo() -> None:
    async def test(network: Libp2pNetwork) -> None:
        async with js_peer(PSK) as js:
            assert await js.have_echoed(network.listen_addresses[0]) == {"echoed": True}
            assert isinstance(await network.events.receive(), Connected)

    run(test)


def test_with_a_wrong_key_nobody_gets_anything() -> None:
    async def test(network: Libp2pNetwork) -> None:
        async with js_peer(OTHER_PSK) as js:
            with pytest.raises(Unreachable):
                await network.dial(js.address)
            assert "error" in await js.have_echoed(network.listen_addresses[0])
            with pytest.raises(trio.WouldBlock):
                network.events.receive_nowait()

    run(test)
