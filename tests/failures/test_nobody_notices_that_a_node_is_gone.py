"""Nobody notices that a serving node is gone: a small part of `make failure-matrix`, without its timings."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from openai import OpenAI

from node.models.demo_model import DEMO_MODEL_NAME
from tests.failures.cast import Cast
from tests.failures.cell import run_cell

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform == "win32", reason="there are no signals to strike with"),
]

WORKERS = 3
LENGTH = 48
"""Tokens, for the official client."""


@pytest.fixture(scope="module")
def living_cast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cast]:
    with Cast(tmp_path_factory.mktemp("cast"), WORKERS) as cast:
        yield cast


@pytest.fixture
def cast(living_cast: Cast) -> Cast:
    """All of them alive."""
    living_cast.restore()
    return living_cast


@pytest.mark.parametrize(
    ("blow", "question", "at"),
    [
        ("nothing", "text", 0),
        ("engine SIGSEGV", "JSON schema", 20),
        ("engine SIGSEGV", "stop", 15),
        ("SIGSTOP", "logprobs", 12),
        ("two SIGKILL", "tools", 4),
    ],
)
def test_an_answer_is_what_engines_reported_and_leaves_nothing_behind(
    cast: Cast, blow: str, question: str, at: int
) -> None:
    cell = run_cell(cast, blow, question, at)
    assert (cell.errors, cell.faults) == ([], [])
    assert (cell.leases, cell.slots) == (0, 0)


def test_the_official_client_reads_on_while_its_peer_is_killed(cast: Cast) -> None:
    with OpenAI(base_url=f"{cast.front.api}/v1", api_key="unused", max_retries=0) as client:
        answer = client.chat.completions.with_raw_response.create(
            model=DEMO_MODEL_NAME,
            messages=[{"role": "user", "content": "Tell me a long story about a lighthouse."}],
            max_tokens=LENGTH,
            temperature=0,
            extra_body={"ignore_eos": True},
            stream=True,
            stream_options={"include_usage": True},
        )
        [serving] = [
            each for each in cast.workers.values() if each.peer_id == answer.headers["x-localai-peer"]
        ]
        text, reasons, usage = "", [], None
        with answer.parse() as stream:
            for number, chunk in enumerate(stream):
                if number == LENGTH // 4:
                    serving.kill()
                for choice in chunk.choices:
                    text += choice.delta.content or ""
                    reasons += [choice.finish_reason] if choice.finish_reason else []
                usage = chunk.usage or usage
        attempts = cast.attempts(answer.headers["x-request-id"])
    assert len(attempts) == 2
    assert text == cast.words_of(attempts[-1].reported(0))
    assert reasons == ["length"]
    assert usage is not None
    assert usage.completion_tokens == LENGTH
