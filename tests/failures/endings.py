"""Cells in which an answer cannot go on, or its front goes: the client is told, the next is served."""

from __future__ import annotations

import signal
from collections.abc import Callable

from tests.failures.cast import Cast
from tests.failures.cell import Cell, ask, judge, run_cell, when
from tests.failures.questions import QUESTIONS

_TOLD_WITHIN = 5.0
"""Seconds in which a client must hear that its answer is over, if it is."""
_WAITED_FOR = 30.0
"""Seconds for which a front waits for somebody who can go on (`federation/relay.py`)."""


def all_peers_die(cast: Cast, at: int) -> Cell:
    """Nobody can go on: the stream ends with an event that says so, or its status does."""

    def strike() -> None:
        for worker in cast.workers.values():
            worker.kill()

    cell = _end(cast, "all peers SIGKILL", at, strike, cast.restore)
    cell.silence_max = _WAITED_FOR + _TOLD_WITHIN
    if not any(error.startswith(("in the stream: ", "503: ")) for error in cell.errors):
        cell.faults.append(f"nobody said so: {cell.errors or 'it went on'}")
    cell.errors.clear()
    return _and_then_all_is_well(cast, cell)


def all_peers_die_and_come_back(cast: Cast, at: int) -> Cell:
    """Somebody is waited for, and the answer goes on."""

    def strike() -> None:
        for worker in cast.workers.values():
            worker.kill()
        cast.restore()

    cell = _end(cast, "all peers SIGKILL and back", at, strike, lambda: None)
    cell.silence_max = _WAITED_FOR
    return cell


def the_front_dies(cast: Cast, at: int) -> Cell:
    """Its clients' connections break at once, and the workers stop; the next front serves."""
    cell = _end(cast, "front SIGKILL", at, cast.front.kill, cast.restart_front)
    if not any("connection broke" in error for error in cell.errors):
        cell.faults.append(f"the connection did not break: {cell.errors or 'it went on'}")
    cell.errors.clear()
    return _and_then_all_is_well(cast, cell)


def the_front_is_told_to_stop(cast: Cast, at: int) -> Cell:
    """It finishes what runs, and a client notices nothing."""
    front = cast.front
    cell = _end(
        cast, "front SIGTERM", at, lambda: front.process.send_signal(signal.SIGTERM), cast.restart_front
    )
    return _and_then_all_is_well(cast, cell)


def _end(
    cast: Cast,
    blow: str,
    at: int,
    strike: Callable[[], object],
    mend: Callable[[], object],
) -> Cell:
    """Have `strike` befall an answer at that token, and look when `mend` is done."""
    cell, question = Cell(blow, "text", at), QUESTIONS["text"]
    with ask(cast, question) as asking:
        serving = when(cast, asking, question, at)
        strike()
    if serving is None:
        cell.faults.append("the answer was over before")
    mend()
    judge(cell, cast, asking)
    cell.silence_max = _TOLD_WITHIN
    return cell


def _and_then_all_is_well(cast: Cast, cell: Cell) -> Cell:
    after = run_cell(cast, "nothing", "text", 0)
    cell.faults += [f"the next answer: {fault}" for fault in (*after.errors, *after.faults)]
    return cell


ENDINGS = (all_peers_die, all_peers_die_and_come_back, the_front_dies, the_front_is_told_to_stop)
