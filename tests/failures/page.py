"""`docs/failure-matrix.md`, written anew from cells. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from statistics import median

from tests.failures.cell import BLOWS, Cell
from tests.failures.questions import LENGTH

_INTRODUCTION = f"""# The failure matrix

Written by `make failure-matrix`, on {{date}}, at {{commits}}. It fails where an aim was missed.

    {{machine}}

Nodes are processes of this machine, the model is SmolLM2 135M, answers have {LENGTH} tokens unless
something else ends them. A front without a worker passes them on from four workers, and one of these is
struck in the middle. Each engine takes 30 ms a token at least, as a larger model would: so a client sees
each token by itself, and a blow falls after that one. Without this an engine tells of tokens forty times a
second, several at once, and a place would be right to a few tokens only. Where a client does not
see each token when it comes (calls, answers that are not streamed, stop strings) what the engine told is
counted.

- **errors**: answers of which a client saw an error. None may be, while one peer with the model lives.
- **wrong**: answers that are not what engines reported: a token lost, repeated or made up, a wrong count, a
  stop string or a schema not kept. Each node writes down what its engine reports before it sends it
  (`tests/failures/recorded_node.py`); what died undelivered is taken off; the rest, put into words, must be
  what the client got. No second run is compared with.
- **gap**: the longest time in which the client saw nothing, without the prefill at the node that went on.
  The aim is 1 s for who died and 4.5 s for who is silent. Of what is not streamed it is all of the answer's
  time.
- **leases**, **slots**: left in the front, by `/api/swarm`, and in the engines of who lives, by
  `/backend/monitor`.
- **load**: how many tasks wanted to compute meanwhile, on the mean. Gaps grow with it.
"""


_POSITIONS = """After which token the node was struck, and the gap in seconds; after which token the next one
went on, where that is not the same (a busy machine tells of several at once); `!` where an aim was missed.
"""


def page(cells: Sequence[Cell], machine: str, date: str, absent: Sequence[str] = ()) -> str:
    """The whole page. `absent`: groups that this machine cannot run."""
    commits = " and ".join(sorted({f"`{cell.commit}`" for cell in cells}))
    return "\n".join(
        [
            _INTRODUCTION.format(machine=machine, date=date, commits=commits),
            "## All of it\n",
            *_summary(cells),
            "\n## Every token position\n",
            _POSITIONS,
            *_positions([cell for cell in cells if cell.question == "text"]),
            *_misses(cells),
            *_absent(absent),
        ]
    )


def _summary(cells: Iterable[Cell]) -> Iterator[str]:
    columns = "cells | errors | wrong | median gap, s | longest | aim | leases | slots | load"
    yield f"| what befell whom | answer | {columns} |"
    yield f"|---|---|{'---:|' * (columns.count('|') + 1)}"
    for (blow, question), group in groupby(sorted(cells, key=_kind), key=_kind):
        members = list(group)
        gaps = [cell.silence for cell in members]
        aim = members[0].silence_max
        numbers = (
            len(members),
            sum(bool(cell.errors) for cell in members),
            sum(bool(cell.faults) for cell in members),
            f"{median(gaps):.2f}",
            f"{max(gaps):.2f}",
            "" if aim is None else f"{aim:g}",
            sum(cell.leases for cell in members),
            sum(cell.slots for cell in members),
            f"{sum(cell.load for cell in members) / len(members):.1f}",
        )
        yield f"| {blow} | {question} | {' | '.join(map(str, numbers))} |"


def _kind(cell: Cell) -> tuple[str, str]:
    return cell.blow, cell.question


def _positions(cells: Sequence[Cell]) -> Iterator[str]:
    blows = [name for name in BLOWS if name != "nothing"]
    yield f"| token | {' | '.join(blows)} |"
    yield f"|---:|{'---:|' * len(blows)}"
    by_place = {(cell.blow, cell.at): cell for cell in cells}
    for at in range(LENGTH):
        row = [by_place.get((blow, at)) for blow in blows]
        if any(row):
            yield f"| {at} | {' | '.join(map(_gap, row))} |"


def _gap(cell: Cell | None) -> str:
    if cell is None:
        return ""
    seam = "" if cell.seams[:1] in ([], [cell.at]) else f", {cell.seams[0]}"
    return f"{cell.silence:.2f}{seam}{' !' * cell.misses_aim}"


def _misses(cells: Iterable[Cell]) -> Iterator[str]:
    missed = [cell for cell in cells if cell.misses_aim]
    if missed:
        yield "\n## What was missed\n"
    for cell in missed:
        said = [*cell.errors, *cell.faults]
        if cell.is_slow:
            said.append(f"{cell.silence:.2f} s without a word and without prefill")
        if cell.leases or cell.slots:
            said.append(f"{cell.leases} leases and {cell.slots} slots were left")
        yield f"- {cell.blow}, {cell.question}, at {cell.at}, went on at {cell.seams}: {'; '.join(said)}"


def _absent(groups: Sequence[str]) -> Iterator[str]:
    if groups:
        yield f"\nNot tried, because this machine cannot: {', '.join(groups)}."
    yield ""
