"""Nobody notices that a serving node is gone: a small part of `make failure-matrix`, without its timings."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.failures.cast import Cast
from tests.failures.cell import run_cell

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform == "win32", reason="there are no signals to strike with"),
]

WORKERS = 3


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
