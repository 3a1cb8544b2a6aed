"""A node says goodbye once, whoever else tells it to stop meanwhile."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from node.config import NodeConfig
from node.control import ask
from node.errors import CommandRefused
from node.flag_types import HostPort
from node.home import Home
from node.parts import Parts
from node.place import found
from node.runtime import Ready, run_node

pytestmark = pytest.mark.real


def test_a_node_that_leaves_already_refuses_to_leave_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draining, drained = trio.Event(), trio.Event()

    async def drain(_: Parts) -> None:
        draining.set()
        await drained.wait()

    monkeypatch.setattr(Parts, "drain", drain)
    home = Home(tmp_path)
    home.create()
    config = NodeConfig(
        home,
        "leaver",
        HostPort("127.0.0.1", 0),
        listen=("/ip4/127.0.0.1/tcp/0",),
        worker=False,
        mdns=False,
    )

    async def leave() -> None:
        answer: Any = await trio.to_thread.run_sync(partial(ask, home, "leave", timeout=20, grace=20))
        assert answer is None

    async def main() -> None:
        ready = trio.Event()

        def note_ready(_: Ready) -> None:
            ready.set()

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run_node, config, found(home), note_ready)
                await ready.wait()
                nursery.start_soon(leave)
                await draining.wait()
                with pytest.raises(CommandRefused, match="stopping already"):
                    await leave()
                drained.set()

    trio.run(main)
