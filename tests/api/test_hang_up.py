"""A client that goes away stops the work, wherever it had come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.api.stub_backend import Hang, hanging_in, words

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.conftest import Bench


@pytest.mark.parametrize("phase", ["waiting", "prefill", "decode"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_hang_up_cancels_the_backend(
    new_bench: Callable[..., Bench],
    run_mocked: Callable[..., Any],
    phase: str,
    stream: bool,
) -> None:
    bench = new_bench(**hanging_in(phase))

    async def main() -> None:
        body = {"model": "stub", "prompt": "Hi", "stream": stream}
        async with bench.open("POST", "/v1/completions", json_body=body) as exchange:
            if stream and phase == "decode":
                await exchange.head()
                assert b"Par" in (await exchange.messages.receive())["body"]
            await trio.testing.wait_all_tasks_blocked()
            assert bench.backend.running == 1
        assert bench.backend.running == 0
        assert bench.backend.cancelled == 1

    run_mocked(main)


def test_a_hang_up_before_the_answer_counts_as_499(
    new_bench: Callable[..., Bench],
    smallest_chat: dict[str, Any],
    run_mocked: Callable[..., Any],
) -> None:
    bench = new_bench(on_enter=Hang())

    async def main() -> None:
        async with bench.open("POST", "/v1/chat/completions", json_body=smallest_chat):
            await trio.testing.wait_all_tasks_blocked()

    run_mocked(main)
    assert 'path="/v1/chat/completions",status="499"} 1.0' in bench.call("GET", "/metrics").body.decode()


def test_a_client_that_does_not_read_holds_the_backend_back(
    new_bench: Callable[..., Bench],
    smallest_chat: dict[str, Any],
    run_mocked: Callable[..., Any],
) -> None:
    taken = []

    def tokens() -> Any:
        for chunk in words(*["word"] * 100):
            taken.append(chunk)
            yield chunk

    bench = new_bench(script=tokens())

    async def main() -> None:
        body = {**smallest_chat, "stream": True}
        async with bench.open("POST", "/v1/chat/completions", json_body=body) as exchange:
            await exchange.head()
            await trio.testing.wait_all_tasks_blocked()
            assert len(taken) == 1
        assert bench.backend.running == 0

    run_mocked(main)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_does_not_read_the_end_holds_no_slot(
    new_bench: Callable[..., Bench],
    run_mocked: Callable[..., Any],
    stream: bool,
) -> None:
    bench = new_bench(script=words("Paris"))

    async def main() -> None:
        body = {"model": "stub", "prompt": "Hi", "stream": stream}
        async with bench.open("POST", "/v1/completions", json_body=body) as exchange:
            await exchange.head()
            if stream:
                assert b"Paris" in (await exchange.messages.receive())["body"]
            await trio.testing.wait_all_tasks_blocked()
            assert bench.backend.running == 0
            assert b"Paris" in (await exchange.reply()).body or stream

    run_mocked(main)
