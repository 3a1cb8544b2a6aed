"""The engine process: `python -m node.engine.child`, started by `process.py`.

    reader thread    stdin -> queue of messages; the end of stdin ends the process, whatever it is doing
    main thread      load, self-test, then the step loop; the only one that touches llama.cpp

The end of stdin is how an engine never outlives its node, even one killed with -9: the
kernel closes the pipe, and llama.cpp lets other threads run while it computes. (Linux
could also signal the death of the parent, but means the *thread* that started us, and
trio starts processes from threads that come and go.)
"""

from __future__ import annotations

import os
import queue
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from node.engine import pacing
from node.engine.embed_loop import EmbeddingModel, EmbedLoop
from node.engine.errors import ModelNotLoadable
from node.engine.load_problem import NOT_ENOUGH_MEMORY
from node.engine.load_progress import LoadProgress
from node.engine.memory import in_gib, limit_own_memory
from node.engine.scheduler import Scheduler, SchedulerConfig
from node.engine.step_loop import Model, StepLoop
from node.engine.wire import (
    FRAME_SIZE_MAX,
    EngineParams,
    FromChild,
    Load,
    Loaded,
    LoadFailed,
    Ping,
    Pong,
    Ready,
    ToChild,
)
from node.engine.wire_codec import to_child, to_map
from node.models.split_files import parts_of
from p2p.errors import BadFrame
from p2p.framing import FrameDecoder, encode_frame

_READ_SIZE = 64 * 1024
_SWITCH_INTERVAL = 0.0005
"""Seconds for which Python lets the main thread go on while the reader wants to. By default it is 5 ms, as
much as sampling takes between two steps: a Cancel that came meanwhile would be seen one step late."""

_WAITING_MAX = 10_000
"""Messages. A step takes less than a second, in which hundreds may come and go."""


LoadModel: TypeAlias = Callable[[EngineParams, Callable[[float], None]], Model | EmbeddingModel]
"""It may say, as often as it likes, what fraction of the weights is read."""


class Messages:
    """What the node says, in order, as read by a thread of its own."""

    def __init__(self, stdin: int) -> None:
        self._queue: queue.SimpleQueue[ToChild] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(stdin,), name="engine-reader", daemon=True).start()

    def _read(self, stdin: int) -> None:
        decoder = FrameDecoder(FRAME_SIZE_MAX)
        status = 1
        try:
            while data := os.read(stdin, _READ_SIZE):
                for message in decoder.feed_untrusted(data):
                    self._queue.put(to_child(message))
                if self._queue.qsize() > _WAITING_MAX:
                    sys.stderr.write("the step loop is stuck\n")
                    return
            status = 0
        except BadFrame as error:
            sys.stderr.write(f"{error}\n")
        finally:
            # Not sys.exit: the main thread may be inside llama.cpp for long, and nothing needs closing.
            os._exit(status)

    def receive(self) -> ToChild:
        """The next one; waits for it."""
        return self._queue.get()

    def waiting(self) -> Iterable[ToChild]:
        """Those that are there already."""
        while not self._queue.empty():
            yield self._queue.get()


class Answers:
    """The way back to the node."""

    def __init__(self, stdout: int) -> None:
        self._stdout = stdout

    def send(self, messages: Iterable[FromChild]) -> None:
        """Write all of `messages` in one go; waits while the pipe is full."""
        data = b"".join(encode_frame(to_map(message), FRAME_SIZE_MAX) for message in messages)
        while data:
            data = data[os.write(self._stdout, data) :]


def main(load_model: LoadModel | None = None) -> None:
    """Serve one model until stdin ends. `load_model`: instead of llama.cpp's."""
    # Ctrl-C and a service manager signal the whole group; the node decides when its engines end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Native code prints to fd 1; the protocol must not share it.
    answers = Answers(os.dup(1))
    os.dup2(2, 1)
    sys.setswitchinterval(_SWITCH_INTERVAL)
    messages = Messages(0)
    load = messages.receive()
    assert isinstance(load, Load), "Load comes first"
    try:
        loop = _load(load.params, load_model or _load_llama, answers)
    except ModelNotLoadable as error:
        answers.send([LoadFailed(_with_limit(str(error), load.params.memory_max))])
        return
    _serve(loop, messages, answers)


def _with_limit(reason: str, memory_max: int) -> str:
    """`reason`, and who set the limit, where the machine may have memory enough."""
    if not memory_max or NOT_ENOUGH_MEMORY not in reason:
        return reason
    return f"{reason}; it may have {in_gib(memory_max)} (--engine-memory)"


def _load(params: EngineParams, load_model: LoadModel, answers: Answers) -> StepLoop | EmbedLoop:
    if params.memory_max:
        limit_own_memory(params.memory_max)
    progress = LoadProgress(time.perf_counter)
    answers.send(progress.read(0.0))
    model = load_model(params, lambda fraction: answers.send(progress.read(fraction)))
    answers.send([Loaded(model.facts, _size_bytes(params.path))])
    decode_seconds = model.self_test(time.perf_counter)
    if isinstance(model, EmbeddingModel):
        answers.send([Ready(model.batch_max * decode_seconds)])
        return EmbedLoop(model, time.perf_counter)
    # Now, because later every stream would wait for it; and not before it is known that the model works.
    model.index_vocabulary()
    # Reading a prompt costs at most what decoding costs per token; how much less, the steps will show.
    scheduler = Scheduler(SchedulerConfig(slots=params.slots), 1 / decode_seconds, decode_seconds)
    answers.send([Ready(scheduler.config.step_alone + params.slots * decode_seconds)])
    return StepLoop(
        model, scheduler, time.perf_counter, new_seed=lambda: secrets.randbits(64), interval=pacing.INTERVAL
    )


def _size_bytes(path: str) -> int:
    try:
        return sum(part.stat().st_size for part in parts_of(Path(path)))
    except OSError:
        return 0  # It was loaded, and is gone now: nothing will be read again.


def _load_llama(params: EngineParams, on_loading: Callable[[float], None]) -> Model | EmbeddingModel:
    # Imported here, so that the reader thread is up while the library loads.
    from node.engine.llama.load import load_model  # noqa: PLC0415

    return load_model(params, on_loading)


def _serve(loop: StepLoop | EmbedLoop, messages: Messages, answers: Answers) -> None:
    def handle(message: ToChild) -> None:
        answers.send([Pong()] if isinstance(message, Ping) else loop.handle(message))

    while True:
        if not loop.has_work:
            handle(messages.receive())
        for message in messages.waiting():
            handle(message)
        if loop.has_work:
            answers.send(loop.step())


if __name__ == "__main__":
    main()
