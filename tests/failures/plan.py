"""What the matrix consists of: groups of cells, each with the nodes it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import TypeAlias

from tests.failures.cast import Cast
from tests.failures.cell import BLOWS, Blow, Cell, ask, run_cell
from tests.failures.endings import ENDINGS
from tests.failures.link import Link, can_be_made
from tests.failures.questions import LENGTH, QUESTIONS

Group: TypeAlias = Callable[[Path], Iterator[Cell]]
"""Cells that share nodes, whose homes are in a folder that is empty and goes away."""

_WORKERS = 4
"""One that dies, one that goes on, one for when that dies too, and one that may still be starting."""

_PLACES = 16
"""In one group, where there is a cell for each place."""

_KINDS = ("logprobs", "n = 2", "not streamed", "JSON schema", "tools")
"""Of answers, other than plain text and what has its own places to be struck at."""


def _cells(*plan: tuple[str, str, int]) -> Group:
    """A group of cells (blow, question, at) that workers of the demo model do for."""

    def run(folder: Path) -> Iterator[Cell]:
        with Cast(folder, _WORKERS) as cast:
            for blow, question, at in plan:
                yield run_cell(cast, blow, question, at)
                # Who died before this cell may come up in the next one: starting takes longer than an answer.
                cast.restore(_WORKERS - 1)

    return run


def _parts(name: str, blow: str) -> Mapping[str, Group]:
    """`blow` at every place of a text, in groups that take a minute or two each."""
    return {
        f"{name}-{begin}": _cells(*product([blow], ["text"], range(begin, begin + _PLACES)))
        for begin in range(0, LENGTH, _PLACES)
    }


def _embeddings(folder: Path) -> Iterator[Cell]:
    # Its package has something to say when it is imported.
    from tests.real.minilm import convert

    model = folder / "minilm.gguf"
    convert(model)
    with Cast(folder, _WORKERS, model=str(model)) as cast:
        for blow, at in (
            ("nothing", 0),
            *product(("SIGKILL", "SIGSTOP", "engine SIGSEGV", "two SIGKILL"), (0, 300)),
        ):
            yield run_cell(cast, blow, "embeddings", at)
            cast.restore()


def _full(folder: Path) -> Iterator[Cell]:
    """Who could go on gives another answer with its only slot, and has to end that first."""
    with Cast(folder, 2, slots=1) as cast:
        for at in (4, 24, 48):
            with ask(cast, QUESTIONS["text"]):
                cell = run_cell(cast, "SIGKILL", "text", at)
            cell.blow, cell.silence_max = "SIGKILL, others full", None
            yield cell
            cast.restore()


def _half_open(folder: Path) -> Iterator[Cell]:
    if not can_be_made():
        return
    with ExitStack() as stack:
        links = {f"worker-{number}": stack.enter_context(Link(number)) for number in range(2)}
        blow = Blow(
            lambda node: links[node.name].cut(),
            BLOWS["SIGSTOP"].silence_max,
            mend=lambda node: links[node.name].join(),
        )
        cast = stack.enter_context(Cast(folder, len(links), links=tuple(links.values())))
        for question, at in (*product(["text"], range(0, LENGTH, 16)), ("not streamed", 16), ("tools", 16)):
            yield run_cell(cast, "link cut", question, at, blow)
            cast.restore()


def _endings(folder: Path) -> Iterator[Cell]:
    with Cast(folder, _WORKERS) as cast:
        for at, end in product((0, 20), ENDINGS):
            yield end(cast, at)
            cast.restore()


GROUPS: Mapping[str, Group] = {
    "nothing": _cells(*product(["nothing"], [name for name in QUESTIONS if name != "embeddings"], [0])),
    **_parts("killed", "SIGKILL"),
    "frozen": _cells(*product(["SIGSTOP"], ["text"], range(0, LENGTH, 8))),
    **_parts("crashed", "engine SIGSEGV"),
    "twice": _cells(*product(["two SIGKILL"], ["text", *_KINDS], (4, 24))),
    "kinds": _cells(
        *product(["SIGKILL"], _KINDS, (0, 8, 24, 40)),
        *product(["SIGSTOP", "engine SIGSEGV"], _KINDS, (16,)),
    ),
    "stop": _cells(*product(["SIGKILL"], ["stop"], range(4, 17)), ("engine SIGSEGV", "stop", 14)),
    "embeddings": _embeddings,
    "full": _full,
    "half-open": _half_open,
    "endings": _endings,
}
