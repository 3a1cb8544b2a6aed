"""What the nodes of a swarm wrote down of one request (`recorded_node.py`), and what that adds up to.

    attempt 1   resumed []          said a b c d e      died
    attempt 2   resumed a b c       said d' f g         done
    account     a b c d' f g                            d and e died undelivered

An account of an answer is the tokens that engines reported, without what died undelivered: what a client must
have got, no more and no less.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import IO, Any, TypeAlias

Ids: TypeAlias = list[int]

Note: TypeAlias = tuple[str, Mapping[str, Any]]
"""Who wrote it, and what."""


@dataclass(slots=True)
class Attempt:
    """One node's part in an answer."""

    node: str
    began_at: float
    resumed: list[Ids]
    """What it was told that was delivered before, of each choice; none if it began the answer."""
    said: dict[int, Ids] = field(default_factory=dict)
    """What its engine reported of each choice."""
    spoke_at: float = inf
    """When its engine first reported something: until then it was reading what had been said."""
    is_done: bool = False

    def before(self, choice: int) -> Ids:
        return self.resumed[choice] if self.resumed else []

    def reported(self, choice: int) -> Ids:
        """All that engines had reported of that choice when this attempt ended, as this one knew it."""
        return self.before(choice) + self.said.get(choice, [])


@dataclass(slots=True)
class Account:
    """What engines reported of one choice, and how its parts fit."""

    ids: Ids
    """All of it, without what died undelivered."""
    seams: list[int]
    """How many tokens had been delivered where another node went on."""
    contradictions: int
    """Seams at which what was said to be delivered is not what had been reported."""


def account_of(attempts: Sequence[Attempt], choice: int) -> Account:
    """What became of `choice` in `attempts`, first to last."""
    account = Account([], [], 0)
    for number, attempt in enumerate(attempts):
        before = attempt.before(choice)
        if number:
            account.seams.append(len(before))
            account.contradictions += account.ids[: len(before)] != before
        account.ids = attempt.reported(choice)
    return account


def silence(said_at: Sequence[float], attempts: Sequence[Attempt]) -> float:
    """The longest time between two of `said_at` in which no engine read a prompt, in seconds."""
    relieved_at = [*(each.began_at for each in attempts[1:]), inf][: len(attempts)]
    # One that was frozen while it read, and relieved, may speak when it is woken.
    readers = [each for each, end in zip(attempts, relieved_at, strict=True) if each.spoke_at < end]
    return max((_silence(begin, end, readers) for begin, end in pairwise(said_at)), default=0.0)


def _silence(begin: float, end: float, readers: Iterable[Attempt]) -> float:
    read = (min(end, each.spoke_at) - max(begin, each.began_at) for each in readers)
    return end - begin - sum(max(0.0, seconds) for seconds in read)


def attempts_of(notes: Iterable[Note]) -> list[Attempt]:
    """The attempts that `notes` of one request tell of, in the order in which they began."""
    attempts: list[Attempt] = []
    latest: dict[str, Attempt] = {}
    for node, noted in sorted(notes, key=lambda each: each[1]["at"]):
        match noted["what"]:
            case "accepted":
                latest[node] = Attempt(node, noted["at"], noted["resumed"])
                attempts.append(latest[node])
            case "said":
                latest[node].spoke_at = min(latest[node].spoke_at, noted["at"])
                latest[node].said.setdefault(noted["choice"], []).extend(noted["ids"])
            case "done":
                latest[node].is_done = True
    return attempts


class Records:
    """The records of all nodes, read as they grow."""

    def __init__(self) -> None:
        self._files: dict[str, IO[str]] = {}
        self._halves: dict[str, str] = defaultdict(str)
        """What each file ended with."""
        self._notes: dict[str, list[Note]] = defaultdict(list)
        """By the id of the request."""

    def follow(self, node: str, path: Path) -> None:
        """Read that node's record too, from now on."""
        if node not in self._files:
            self._files[node] = path.open(encoding="utf-8")

    def attempts(self, request_id: str) -> list[Attempt]:
        """The attempts at `request_id` so far."""
        for node, file in self._files.items():
            # A line is one write, but who reads meanwhile may see what is before the end of a page only.
            *lines, self._halves[node] = (self._halves[node] + file.read()).split("\n")
            for noted in map(json.loads, lines):
                self._notes[noted["id"]].append((node, noted))
        return attempts_of(self._notes[request_id])

    def close(self) -> None:
        for file in self._files.values():
            file.close()
