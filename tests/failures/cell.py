"""One cell of the matrix: an answer is asked for, who serves it is struck, and all is looked at."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from tests.failures.cast import Cast, crash_engines, let_engines_recover
from tests.failures.client import Asking, Reply
from tests.failures.questions import QUESTIONS, Question, difference
from tests.failures.record import account_of, silence
from tests.real.swarm_processes import NodeProcess

_LOOK_INTERVAL = 0.002
"""Seconds between two looks at how far an answer is: a token takes thirty milliseconds."""

SECOND_BLOW_AFTER = 16
"""Tokens between the first death and the second in one answer."""

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Blow:
    """What befalls a node."""

    strike: Callable[[NodeProcess], None]
    silence_max: float
    """Seconds, beyond the prefill at the next node, in which a client may see nothing."""
    times: int = 1
    mend: Callable[[NodeProcess], None] = lambda node: None
    """What lets a node go on that has not died of it."""


BLOWS: Mapping[str, Blow] = {
    "nothing": Blow(NodeProcess.kill, 1.0, times=0),
    "SIGKILL": Blow(NodeProcess.kill, 1.0),
    "SIGSTOP": Blow(NodeProcess.freeze, 4.5, mend=NodeProcess.thaw),
    "engine SIGSEGV": Blow(crash_engines, 1.0, mend=let_engines_recover),
    "two SIGKILL": Blow(NodeProcess.kill, 1.0, times=2),
}


@dataclass(slots=True)
class Cell:
    """What came of it."""

    blow: str
    question: str
    at: int
    """When the blow was to fall, as `Question.progress` counts."""
    seams: list[int] = field(default_factory=list)
    """Tokens after which another node went on: of choice 0, as the next node was told."""
    errors: list[str] = field(default_factory=list)
    """What a client would have seen go wrong."""
    faults: list[str] = field(default_factory=list)
    """Where its answer is not what engines told: something was lost, repeated or made up."""
    gap: float = 0.0
    """Longest that the client saw nothing, in seconds; of an answer that is not streamed, all of its time."""
    silence: float = 0.0
    """The same without the time in which an engine read a prompt, or what had been said."""
    silence_max: float | None = None
    """That this may be; None where there is no aim."""
    leases: int = 0
    """That were left in the front."""
    slots: int = 0
    """That were left in engines."""
    commit: str = ""
    """Of the code it ran."""
    load: float = 0.0
    """How many tasks wanted to compute in the last minute: gaps grow with it."""

    @property
    def misses_aim(self) -> bool:
        return bool(self.errors or self.faults or self.leases or self.slots or self.is_slow)

    @property
    def is_slow(self) -> bool:
        return self.silence_max is not None and self.silence > self.silence_max


def run_cell(cast: Cast, blow_name: str, question_name: str, at: int, blow: Blow | None = None) -> Cell:
    """Ask `question_name` of the front, and strike when `at` tokens are there. Who died stays dead.

    `blow`: instead of that of its name in `BLOWS`.
    """
    blow, question = blow or BLOWS[blow_name], QUESTIONS[question_name]
    cell = Cell(blow_name, question_name, at)
    with ask(cast, question) as asking:
        struck = _strike(cast, asking, blow, question, at)
    for node in struck:
        blow.mend(node)
    if len(struck) < blow.times:
        cell.errors.append(f"the answer was over after {len(struck)} blows")
    judge(cell, cast, asking)
    cell.silence_max = blow.silence_max if blow.times and question.body.get("stream") else None
    return cell


def ask(cast: Cast, question: Question) -> Asking:
    """A request of that kind, to the front, by an id that no other has."""
    return Asking(cast.front.api, question.path, question.body, f"cell-{next(_numbers)}")


def judge(cell: Cell, cast: Cast, asking: Asking) -> None:
    """Fill in what came of it, once all is over."""
    question, reply = QUESTIONS[cell.question], asking.reply
    attempts = cast.attempts(asking.request_id)
    accounts = [account_of(attempts, choice) for choice in range(question.choices)]
    told = [cast.words_of(account.ids) for account in accounts]
    cell.errors += reply.errors
    cell.faults += _untold(reply, told) if reply.errors else question.faults(reply, told)
    cell.faults += [
        "what was said to be delivered is not what was told" for each in accounts if each.contradictions
    ]
    cell.seams = accounts[0].seams if accounts else []
    cell.gap, cell.silence = reply.longest_gap, silence(reply.said_at, attempts)
    cell.leases, cell.slots = cast.leases_left(), cast.slots_left()
    cell.load = os.getloadavg()[0]


def when(cast: Cast, asking: Asking, question: Question, at: int) -> NodeProcess | None:
    """Who serves the answer when `at` tokens of it are there; None: it was over before."""
    while not asking.wait(_LOOK_INTERVAL):
        serving = cast.serving(asking.request_id)
        if serving is not None and _position(cast, asking, question) >= at:
            return serving
    return None


def _strike(cast: Cast, asking: Asking, blow: Blow, question: Question, at: int) -> list[NodeProcess]:
    """Strike whoever serves the answer, as often as it takes; returns who was struck."""
    struck: list[NodeProcess] = []
    while len(struck) < blow.times:
        serving = when(cast, asking, question, at + len(struck) * SECOND_BLOW_AFTER)
        if serving is None:
            break
        if serving not in struck:
            blow.strike(serving)
            struck.append(serving)
    return struck


def _position(cast: Cast, asking: Asking, question: Question) -> int:
    """How far the answer is: see `Question.progress`."""
    if question.progress == "seen":
        return asking.events
    attempts = cast.attempts(asking.request_id)
    if not attempts:
        return 0
    if question.progress == "told":
        return len(account_of(attempts, 0).ids)
    return int((time.monotonic() - attempts[0].began_at) * 1000)


def _untold(reply: Reply, told: Sequence[str]) -> list[str]:
    """What a client got of an answer that broke off, and no engine told."""
    got = [reply.texts[choice] for choice in range(len(told))]
    return [
        fault for text, whole in zip(got, told, strict=True) for fault in difference(text, whole[: len(text)])
    ]
