"""Pacing: how often a reader hears of a choice.

    a token a step --> [ held ] --> one piece of all that is held

A message costs the node, which words it as HTTP, as much time on a processor as a small model's
layers cost for a token; on a machine whose cores all compute, that is time taken from them. So
tokens that come faster than anybody reads are told of a few at a time. The first is told of
at once, and so is whatever ends a choice or keeps it from going on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from node.engine.scheduler import SequenceId
from node.engine.wire import Piece

INTERVAL = 0.025
"""Seconds between two pieces of a choice. Forty a second still look like a flow of words; a model that makes
a hundred tokens a second then costs the node a third of what it did."""


@dataclass(slots=True)
class Pacing:
    """What is held back of all choices."""

    interval: float
    _held: dict[SequenceId, list[Piece]] = field(default_factory=dict)
    _said_at: dict[SequenceId, float] = field(default_factory=dict)

    def hold(self, piece: Piece) -> None:
        """Say this of its choice, when the time has come."""
        self._held.setdefault((piece.id, piece.choice), []).append(piece)

    def due(self, now: float, is_paused: Callable[[SequenceId], bool]) -> list[Piece]:
        """What is to be said `now`. A choice that `is_paused` goes on only after it was read."""
        said = []
        for each, pieces in list(self._held.items()):
            has_ended = pieces[-1].finish_reason is not None
            is_time = now - self._said_at.get(each, -self.interval) >= self.interval
            if has_ended or is_time or is_paused(each):
                said.append(_joined(pieces))
                del self._held[each]
                self._said_at[each] = now
            if has_ended:
                del self._said_at[each]
        return said

    def drop(self, request_id: int) -> None:
        """Nobody waits for the choices of that request any more."""
        for noted in (self._held, self._said_at):
            for each in [each for each in noted if each[0] == request_id]:
                del noted[each]


def _joined(pieces: Sequence[Piece]) -> Piece:
    first, last = pieces[0], pieces[-1]
    return Piece(
        first.id,
        first.choice,
        tuple(token for piece in pieces for token in piece.token_ids),
        "".join(piece.text for piece in pieces),
        tuple(each for piece in pieces for each in piece.logprobs),
        finish_reason=last.finish_reason,
    )
