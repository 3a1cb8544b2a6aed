"""One engine process as the node sees it: its pipes, and the generations in it.

    EngineProcess.run       starts the child, reads it until it ends, kills it when cancelled
    EngineProcess.generate  one generation in it; leaving the `with` cancels it there

One task reads the child and never waits for a reader of tokens: each generation has a
buffer of its own, and the child pauses a generation whose buffer would overflow.
"""

from __future__ import annotations

import logging
import signal
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

import trio

from node.child_environment import child_environment
from node.engine.errors import EngineFailed, PromptRefused
from node.engine.generation import Generation
from node.engine.memory import needed_bytes, resident_bytes
from node.engine.supervisor import EndedBecause
from node.engine.watchdog import Ask, End, Heard, Ticked, Watchdog, WatchdogConfig
from node.engine.wire import (
    FRAME_SIZE_MAX,
    Accepted,
    Cancel,
    Credit,
    EngineParams,
    EngineRequest,
    Finished,
    FromChild,
    Load,
    Loaded,
    LoadFailed,
    Loading,
    Piece,
    Ping,
    Pong,
    Prefilled,
    Ready,
    Refused,
    ToChild,
    asked,
    choices_of,
    slots_of,
)
from node.engine.wire_codec import from_child, to_map
from p2p.errors import BadFrame, FrameTooLarge
from p2p.framing import FrameDecoder, encode_frame

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ended:
    """The child is gone."""

    how: str
    """For a person: "was ended by SIGSEGV"."""
    because: EndedBecause = "crashed"


LifeEvent: TypeAlias = Loading | Loaded | Ready | LoadFailed | Finished | Ended
"""What the owner of a process wants to hear of it."""

_ENVIRONMENT = {
    # Otherwise an abort of llama.cpp starts a debugger on itself.
    "GGML_NO_BACKTRACE": "1",
    # How often a thread of llama.cpp looks for work before it sleeps. By default GNU's spin for
    # milliseconds, for which whatever else computes on those cores has to wait, and they for it: of two
    # engines on two cores each is four to six times slower (docs/engine.md). Alone, sleeping sooner costs
    # 7 % with the smallest model, less with larger ones.
    "GOMP_SPINCOUNT": "1000",
}
"""Unless the node's own environment says otherwise."""

_OUTBOX_MAX = 1024
"""Messages the child has not taken. It reads all the time, so one that leaves a thousand is stuck."""
_READ_SIZE = 64 * 1024
_STDERR_LINES = 20
"""Kept to explain a crash: an abort of llama.cpp says why in its last line."""
_LAST_WORDS_MAX = 300
"""Characters of it that go into a reason."""
_SIGNAL_NAMES = {each.value: each.name for each in signal.Signals}
_EXIT_TIMEOUT = 5.0
"""Seconds for the kernel to take apart a process that has ended or was killed; a large one takes one."""


class EngineProcess:
    """One child. `run` it once."""

    def __init__(
        self,
        command: Sequence[str],
        params: EngineParams,
        on_event: Callable[[LifeEvent], None],
        watchdog: WatchdogConfig,
    ) -> None:
        self._command = command
        self._params = params
        self._on_event = on_event
        self._process: trio.Process | None = None
        self._generations: dict[int, Generation] = {}
        self._next_id = 1
        self._outbox, self._to_send = trio.open_memory_channel[bytes](_OUTBOX_MAX)
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._ending = ""
        """How it ended, or why it has to; empty while all is well."""
        self._because: EndedBecause = "crashed"
        self._talking = trio.CancelScope()
        self._watchdog = Watchdog(watchdog, params.memory_max)

    @property
    def pid(self) -> int | None:
        """Of the child, once there is one."""
        return self._process.pid if self._process else None

    @property
    def memory_bytes(self) -> int:
        """Resident, of the child; 0 when there is none."""
        return resident_bytes(self._process.pid) if self._process else 0

    @property
    def slots_busy(self) -> int:
        """Of generations that were not left. The child hears of one that was before it hears of the next."""
        return sum(generation.slots for generation in self._generations.values())

    async def run(self) -> None:
        """Run the child to its end. Cancelled: it is killed, and nobody hears of an `Ended`.

        Raises:
          OSError: it could not be started.
        """
        self._process = process = await trio.lowlevel.open_process(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**_ENVIRONMENT, **child_environment()},
        )
        logger.info("engine %s started for %s", process.pid, self._params.path)
        try:
            self._send(Load(self._params))
            await self._talk(process)
            if not self._ending:
                with trio.move_on_after(_EXIT_TIMEOUT):
                    await process.wait()
                self._ending = self._how_it_ended(process.returncode)
            # Before its generations fail, so that whoever asks then is told the truth.
            self._on_event(Ended(self._ending, self._because))
        finally:
            await self._take_down(process)

    async def _talk(self, process: trio.Process) -> None:
        """Carry messages both ways until the child ends, or must."""
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with self._talking:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, process.stdin)
                nursery.start_soon(self._read_stderr, process.stderr)
                async with trio.open_nursery() as watching:
                    watching.start_soon(self._watch, process.pid)
                    watching.start_soon(self._read, process.stdout, watching.cancel_scope)
                # Now the others end by themselves, unless something else holds its pipes.
                self._outbox.close()
                self._talking.deadline = trio.current_time() + _EXIT_TIMEOUT

    async def _watch(self, pid: int) -> None:
        """End it when it is stuck, or takes too much memory."""
        while True:
            await trio.sleep(self._watchdog.config.interval)
            match self._watchdog.handle(
                Ticked(bool(self._generations), needed_bytes(pid)), trio.current_time()
            ):
                case Ask():
                    self._send(Ping())
                case End(how, because):
                    self._because = because
                    self._kill(how)
                    return
                case None:
                    pass

    async def _read(self, stdout: trio.abc.ReceiveStream, watching: trio.CancelScope) -> None:
        decoder = FrameDecoder(FRAME_SIZE_MAX)
        try:
            while data := await stdout.receive_some(_READ_SIZE):
                for message in decoder.feed_untrusted(data):
                    self._on_message(from_child(message))
        except BadFrame as error:
            self._kill(f"broke the engine protocol: {error}")
        watching.cancel()

    def _on_message(self, message: FromChild) -> None:
        match message:
            case Accepted() | Refused() | Prefilled() | Piece() | Finished():
                # A generation that was left while this was on its way is not there any more.
                generation = self._generations.get(message.id)
                if generation is not None:
                    generation.on_message(message)
                if isinstance(message, Finished):
                    self._on_event(message)
            case Loading() | Loaded() | Ready() | LoadFailed():
                self._watchdog.handle(Heard(message), trio.current_time())
                self._on_event(message)
            case Pong():
                self._watchdog.handle(Heard(message), trio.current_time())

    async def _write(self, stdin: trio.abc.SendStream) -> None:
        try:
            async for frame in self._to_send:
                await stdin.send_all(frame)
        except trio.BrokenResourceError:
            # It is gone; the end of its stdout says so to the reader.
            pass

    async def _read_stderr(self, stderr: trio.abc.ReceiveStream) -> None:
        unfinished = b""
        while data := await stderr.receive_some(_READ_SIZE):
            *lines, unfinished = (unfinished + data)[-_READ_SIZE:].split(b"\n")
            for line in lines:
                text = line.decode(errors="replace").strip()
                logger.debug("engine %s: %s", self.pid, text)
                self._stderr.append(text)

    def _send(self, message: ToChild) -> None:
        frame = encode_frame(to_map(message), FRAME_SIZE_MAX)
        try:
            self._outbox.send_nowait(frame)
        except trio.WouldBlock:
            self._kill("did not read its messages")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # The child has ended, and its generations hear of that another way.
            pass

    def _kill(self, why: str) -> None:
        self._ending = why
        assert self._process is not None
        self._process.kill()
        # One that waits for a device may not die, and its pipes stay open.
        self._talking.deadline = trio.current_time() + _EXIT_TIMEOUT

    def _how_it_ended(self, status: int | None) -> str:
        if status is None:
            return "closed its pipes and went on running"
        if status < 0:
            how = f"was ended by {_SIGNAL_NAMES.get(-status, -status)}"
        else:
            how = f"exited with {status:#x}"
        last_words = next((line for line in reversed(self._stderr) if line), "")
        return f"{how} ({last_words[:_LAST_WORDS_MAX]})" if last_words else how

    async def _take_down(self, process: trio.Process) -> None:
        """Leave no process, no pipe, and nobody waiting."""
        self._ending = self._ending or "was stopped"
        self._to_send.close()
        for generation in self._generations.values():
            generation.fail(EngineFailed(f"the engine {self._ending}"))
        process.kill()
        with trio.CancelScope(shield=True):
            with trio.move_on_after(_EXIT_TIMEOUT):
                await process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                assert pipe is not None
                await pipe.aclose()

    @asynccontextmanager
    async def generate(self, request: EngineRequest) -> AsyncIterator[Generation]:
        """Run `request`; entering waits until its prompt is accepted. Leaving early cancels it.

        Raises:
          PromptRefused: this model cannot serve it.
          EngineFailed: the child ended.
        """
        if self._ending:
            raise EngineFailed(f"the engine {self._ending}")
        generation = Generation(
            choices_of(request),
            slots_of(request),
            lambda choice, tokens: self._send(Credit(generation_id, choice, tokens)),
        )
        generation_id = self._next_id
        self._next_id += 1
        try:
            self._send(asked(generation_id, request))
        except (FrameTooLarge, UnicodeEncodeError) as error:
            raise PromptRefused(f"the prompt cannot be passed on: {error}") from error
        self._generations[generation_id] = generation
        try:
            await generation.wait_accepted()
            yield generation
        finally:
            del self._generations[generation_id]
            if not generation.has_ended:
                self._send(Cancel(generation_id))
            generation.close()
