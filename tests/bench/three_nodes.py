"""Three nodes, and what befalls one of them, round after round: how soon the two others know.

A round is a frozen node that goes on as soon as it is suspect, one that goes on when all
have given it up, one that is told to stop, one that is killed, and one that leaves. While it
is frozen another node writes to the ledger. A time is that of the last node to see it.
"""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from math import inf
from pathlib import Path
from typing import Final

from node.control import ask
from node.home import Home
from node.models.demo_model import DEMO_MODEL_NAME
from tests.bench.figures import Figure, over_rounds
from tests.bench.ledgers import lost, root, said, wait_until_equal
from tests.bench.looking import Condition, Look, Seen, latest, look
from tests.real.swarm_processes import NodeProcess, NodeProcesses, Rows, is_online, serves

ROUNDS = 5
VICTIM = "victim"
COMMAND_TIMEOUT = 30.0
"""Seconds for a node to do what a command asks; it has nothing to finish here."""
REMORSE_TIME = 5.0
"""Seconds in which a node that has just woken might still blame others: more than it takes to give a
peer up that was suspect."""

AIMS: Final[Mapping[str, float | None]] = {
    "killed: not chosen any more": 1,
    "killed: offline in every view": 5,
    "frozen: suspect in every view": 3,
    "woken while suspect: online everywhere": 2,
    "woken when given up: online everywhere": 2,
    "woken: all ledgers equal": 2,
    "leave: gone from every view": 1,
    "SIGTERM: offline in every view": 1,
}
"""Seconds, in the order of the table."""


def measure(folder: Path) -> Iterator[Figure]:
    """Five rounds, after which the three have been through everything in every order."""
    with NodeProcesses(folder) as nodes:
        trio = _Trio(nodes)
        for _ in range(ROUNDS):
            trio.live_through_a_round()
    for what, aim in AIMS.items():
        yield from over_rounds(what, trio.seconds[what], "s", aim)
    yield Figure("woken: peers it called offline", trio.blamed, "", 0)
    yield Figure("woken: entries lost or never heard of", trio.lost, "", 0)
    yield Figure("woken: ledgers that stayed different", trio.different, "", 0)


class _Trio:
    """Two nodes that stay, a victim that is a new process after most blows, and what was seen."""

    def __init__(self, nodes: NodeProcesses) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.blamed = 0
        """How often the victim woke up and called somebody offline who never was."""
        self.lost = 0
        self.different = 0
        """How often the three never came to hold the same."""
        self._nodes = nodes
        self._founder = nodes.run("start", "founder")
        self._token = self._founder.token()
        self._others = (self._founder, nodes.run("join", "other", token=self._token))
        self._has_model = False

    def live_through_a_round(self) -> None:
        victim = self._come_up("join")
        self._sleep(victim, "woken while suspect: online everywhere", until=_is_not_chosen)
        self._sleep(victim, "woken when given up: online everywhere", until=_is_offline)

        self._strike("SIGTERM: offline in every view", _is_offline, lambda: _terminate(victim))
        victim.wait()
        victim = self._come_up("start")
        self._kill(victim)
        victim = self._come_up("start")
        self._strike("leave: gone from every view", _is_gone, lambda: _leave(victim))
        victim.wait()

    def _come_up(self, command: str) -> NodeProcess:
        """The victim, known to all and knowing all."""
        victim = self._nodes.run(command, VICTIM, token=self._token if command == "join" else None)
        for node in (*self._others, victim):
            node.wait_until(lambda rows: is_online(rows, VICTIM, *(other.name for other in self._others)))
        return victim

    def _kill(self, victim: NodeProcess) -> None:
        conditions = {
            "killed: not chosen any more": _is_not_chosen,
            "killed: offline in every view": _is_offline,
        }
        seen = self._look(conditions, victim.kill)
        for what in conditions:
            self.seconds[what].append(latest(seen, what))

    def _strike(self, what: str, condition: Condition, blow: Callable[[], object]) -> None:
        self.seconds[what].append(latest(self._look({what: condition}, blow), what))

    def _look(self, conditions: Mapping[str, Condition], blow: Callable[[], object]) -> list[Seen]:
        looks = [Look(other, conditions) for other in self._others]
        return look(looks, began_at=time.monotonic(), strike=blow)

    def _sleep(self, victim: NodeProcess, woken: str, until: Condition) -> None:
        """Freeze it until the others think `until` of it; write meanwhile; then let it go on."""
        wait_until_equal((*self._others, victim))
        said_by_others = {entry for entry in said(victim) if entry.owner != self._founder.peer_id}
        try:
            self._strike("frozen: suspect in every view", _is_suspect, victim.freeze)
            self._write(victim)
            for other in self._others:
                other.wait_until(until)
            held = said_by_others | said(self._founder)
            self._wake(victim, woken)
        finally:
            victim.thaw()
        if self._has_model:
            self._founder.wait_until(lambda rows: serves(rows, self._founder.name))
        everybody = (*self._others, victim)
        if wait_until_equal(everybody) == inf:
            self.different += 1
        self.lost += sum(len(lost(held, said(node))) for node in everybody)

    def _write(self, victim: NodeProcess) -> None:
        """Have the founder say something that the victim sleeps through: it has a model more, or less."""
        home, has_model = Home(self._founder.home), not self._has_model
        if has_model:
            ask(home, "models.add", timeout=COMMAND_TIMEOUT, source="demo", copy=False)
        else:
            ask(home, "models.rm", timeout=COMMAND_TIMEOUT, name=DEMO_MODEL_NAME)
        self._has_model = has_model
        for other in self._others:
            other.wait_until(lambda rows: bool(rows[self._founder.name]["models"]) == has_model)
        wait_until_equal(self._others)
        assert root(victim) != root(self._founder)

    def _wake(self, victim: NodeProcess, woken: str) -> None:
        others = [other.name for other in self._others]
        looks = [
            *(Look(other, {"back": lambda rows: is_online(rows, VICTIM)}) for other in self._others),
            Look(victim, {"back": lambda rows: is_online(rows, *others)}),
            Look(victim, {"blames": lambda rows: _calls_offline(rows, others)}, within=REMORSE_TIME),
        ]
        equal_after: list[float] = []

        def thaw() -> None:
            victim.thaw()
            equal_after.append(wait_until_equal((*self._others, victim)))

        seen = look(looks, began_at=time.monotonic(), strike=thaw)
        self.seconds[woken].append(latest(seen, "back"))
        self.seconds["woken: all ledgers equal"] += equal_after
        self.blamed += latest(seen, "blames") < inf


def _is_not_chosen(rows: Rows) -> bool:
    return not is_online(rows, VICTIM)


def _is_suspect(rows: Rows) -> bool:
    return VICTIM in rows and rows[VICTIM]["state"] == "suspect"


def _is_offline(rows: Rows) -> bool:
    return VICTIM in rows and rows[VICTIM]["state"] == "offline"


def _is_gone(rows: Rows) -> bool:
    return VICTIM not in rows


def _calls_offline(rows: Rows, names: list[str]) -> bool:
    return any(name not in rows or rows[name]["state"] == "offline" for name in names)


def _terminate(victim: NodeProcess) -> None:
    victim.process.send_signal(signal.SIGTERM)


def _leave(victim: NodeProcess) -> None:
    """What `localai-node leave` sends, without the time that Python takes to start."""
    ask(Home(victim.home), "leave", timeout=COMMAND_TIMEOUT, grace=COMMAND_TIMEOUT)
