"""Renders chat templates and tries grammars in a child process, and kills it when it does not answer.

    async with ChatRenderer() as renderer:
        text = await renderer.render(template, {"messages": [...]})
        await renderer.check_grammar(lark)

The child starts when chats are expected (`get_ready`), at the latest with the first request,
and serves one request after the other. A child that was killed, or died, is replaced at the
next request.
"""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import psutil
import trio

from node.chat.errors import GrammarRefused, RendererUnavailable, TemplateFailed
from node.chat.render_wire import RENDER_FRAME_SIZE_MAX, RENDER_TIMEOUT, RENDER_WAIT_MAX
from node.child_environment import child_environment
from p2p.errors import BadFrame, FrameTooLarge
from p2p.frame_stream import FrameStream

logger = logging.getLogger(__name__)

_START_TIMEOUT = 30.0
"""Seconds to import jinja2: 0.2 usually, many while a slow disk is busy with a model."""

_LOOK_INTERVAL_MIN = 0.05
"""Seconds between two looks at how long the child has computed; systems count that in steps of 0.01."""

_REAP_TIMEOUT = 5.0
"""Seconds for the system to clear away a killed child; it takes longer only where the kernel hangs."""

_PASSED_MAX = 256
"""Grammars that need no second check, for an agent sends the same tools with every turn. More than there are
agents; 8 KB of hashes."""

_OUT_OF_MEMORY = "ended its process: it took too much memory"

# -P: a folder called `node` where somebody happens to start us is not ours.
_COMMAND = (sys.executable, "-P", "-m", "node.chat.render_child")


class ChatRenderer(trio.abc.AsyncResource):
    """One render child, started when needed. Close it to end the child."""

    def __init__(self) -> None:
        self._child: _Child | None = None
        self._turn = trio.Lock()
        self._are_chats_expected = trio.Event()
        self._passed: dict[bytes, None] = {}
        """Hashes of grammars that can be run, the one used last at the end."""

    def expect_chats(self) -> None:
        """A chat may come any time from now on."""
        self._are_chats_expected.set()

    async def get_ready(self) -> None:
        """Once chats are expected, start the child. Cancelled: one that has not started yet is ended.

        It takes 0.2 s, on a busy machine a second, and the first chat may be the rest of an answer that
        broke off elsewhere.
        """
        await self._are_chats_expected.wait()
        try:
            async with self._turn:
                await self._living_child()
        except RendererUnavailable as error:
            logger.warning("chats are refused as long as this is so: %s", error)

    async def render(self, template: str, values: Mapping[str, Any]) -> str:
        """What `template` makes of `values`. Cancelled: the child is ended, the next request gets a new one.

        Raises:
          TemplateFailed: the template raised, ran longer than `RENDER_TIMEOUT`, or took too much memory.
          RendererUnavailable: the child does not start, or was ended by `aclose`.
        """
        try:
            return await self._ask({"template": template, "values": values})
        except _ChildError as error:
            raise TemplateFailed(f"the template {error}" if error.is_our_finding else str(error)) from error

    async def check_grammar(self, lark: str) -> None:
        """Nothing, if an answer to `lark` can be generated. Cancelled: as `render`.

        Raises:
          GrammarRefused: it cannot be, or to find out took longer than `RENDER_TIMEOUT` or too much memory.
          RendererUnavailable: as `render`, or grammars cannot be run here at all.
        """
        digest = hashlib.sha256(lark.encode()).digest()
        if digest not in self._passed:
            await self._ask_of_grammar({"grammar": lark})
            if len(self._passed) == _PASSED_MAX:
                del self._passed[next(iter(self._passed))]
        self._passed[digest] = self._passed.pop(digest, None)
        await trio.lowlevel.checkpoint()

    async def lark_of_gbnf(self, gbnf: str) -> str:
        """llama.cpp's kind of grammar in Lark. Cancelled, and raises: as `check_grammar`."""
        return await self._ask_of_grammar({"gbnf": gbnf})

    async def _ask_of_grammar(self, request: Mapping[str, Any]) -> str:
        try:
            return await self._ask(request)
        except _ChildError as error:
            raise GrammarRefused(f"it {error}" if error.is_our_finding else str(error)) from error

    async def _ask(self, request: Mapping[str, Any]) -> str:
        async with self._turn:
            child = await self._living_child()
            answer: Mapping[str, Any] | None = None
            try:
                answer = await child.ask(request)
            finally:
                if answer is None:
                    await self._end_child()
        if "unavailable" in answer:
            raise RendererUnavailable(str(answer["unavailable"]))
        if "error" in answer:
            raise _ChildError(str(answer["error"]))
        return str(answer["text"])

    async def _living_child(self) -> _Child:
        if self._child is not None and not self._child.is_alive:
            await self._end_child()
        if self._child is None:
            self._child = await _start_child()
        return self._child

    async def aclose(self) -> None:
        """End the child. Cancelled or not, it is gone."""
        await self._end_child()
        await trio.lowlevel.checkpoint()

    async def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.end()


def computing_time(pid: int) -> float:
    """Seconds that all cores together have computed for `pid`; 0 when it has ended."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


class _ChildError(Exception):
    """What was asked has no answer: a predicate where that is our own finding, else the child's words."""

    def __init__(self, message: str, *, is_our_finding: bool = False) -> None:
        super().__init__(message)
        self.is_our_finding = is_our_finding


class _Child:
    """A running render child."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._frames = FrameStream(trio.StapledStream(process.stdin, process.stdout), RENDER_FRAME_SIZE_MAX)

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    async def wait_ready(self) -> None:
        try:
            with trio.fail_after(_START_TIMEOUT):
                ready = await self._frames.receive()
        except (trio.TooSlowError, trio.BrokenResourceError, BadFrame) as error:
            raise RendererUnavailable("the process that renders chat templates does not start") from error
        if ready is None:
            raise RendererUnavailable(
                f"the process that renders chat templates ended: {self._process.poll()}"
            )

    async def ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer to `request`. After any exception the child is of no more use."""
        try:
            with trio.fail_after(RENDER_WAIT_MAX):
                answer = await self._exchange(request)
        except trio.TooSlowError as error:
            raise _ChildError(f"was not done within {RENDER_WAIT_MAX:g} s", is_our_finding=True) from error
        except FrameTooLarge as error:
            raise _ChildError(f"is too large, with all it is given: {error}", is_our_finding=True) from error
        except trio.ClosedResourceError as error:
            raise RendererUnavailable("the process that renders chat templates was stopped") from error
        except (trio.BrokenResourceError, BadFrame) as error:
            raise _ChildError(_OUT_OF_MEMORY, is_our_finding=True) from error
        if answer is None:
            raise _ChildError(_OUT_OF_MEMORY, is_our_finding=True)
        return answer

    async def _exchange(self, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
        await self._frames.send(request)
        with trio.move_on_after(_LOOK_INTERVAL_MIN):
            return await self._frames.receive()
        # Only now: nearly all answers have come, and a look takes 0.1 ms.
        began, computed = computing_time(self._process.pid), 0.0
        while computed < RENDER_TIMEOUT:
            with trio.move_on_after(max(RENDER_TIMEOUT - computed, _LOOK_INTERVAL_MIN)):
                return await self._frames.receive()
            computed = computing_time(self._process.pid) - began
        raise _ChildError(f"ran longer than {RENDER_TIMEOUT:g} s", is_our_finding=True)

    async def end(self) -> None:
        self._process.kill()
        with trio.CancelScope(shield=True):
            await self._frames.aclose()
            with trio.move_on_after(_REAP_TIMEOUT):
                await self._process.wait()


async def _start_child() -> _Child:
    try:
        process = await trio.lowlevel.open_process(
            _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=child_environment()
        )
    except OSError as error:
        raise RendererUnavailable(
            f"the process that renders chat templates does not start: {error}"
        ) from error
    child = _Child(process)
    try:
        await child.wait_ready()
    except BaseException:
        await child.end()
        raise
    logger.debug("a render child started: pid=%s", process.pid)
    return child
