"""Reputation: who sent chunks whose hash was another one, and with whom we have nothing to do for a day.

A wrong chunk costs a seeder that manifest: one may come of a bad disk or a bit that flipped. Of three it is a
machine that is broken, or one that lies, and both cost whoever asks it.

Kept between runs, so `now` is the time of day (seconds since 1970), and a clock that was set changes how long
a ban lasts, never to more than a day. Reads no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from p2p.blobs.manifest import ManifestId
from p2p.peer import PeerId

MANIFESTS_WRONG_MAX = 3
"""Of which a peer may send a wrong chunk before it is banned: the third one is it. Design."""
BAN_TIME = 24 * 3600.0
"""Seconds. Design."""
MEMORY_TIME = 30 * 24 * 3600.0
"""Seconds that a wrong chunk counts: a bad disk shows itself three times in a month, a stray bit does not."""
PEERS_MAX = 1024
"""The largest swarm of this design. Of more the one that was heard of longest ago is forgotten."""


@dataclass(slots=True)
class _Record:
    wrong_at: dict[ManifestId, float] = field(default_factory=dict)
    """When a wrong chunk of each manifest came last; of at most two, then it is banned."""
    banned_at: float | None = None


class Reputation:
    """Of all peers. Begins with nothing against anybody."""

    def __init__(self) -> None:
        self._records: dict[PeerId, _Record] = {}
        """The one that was heard of longest ago first."""

    def note_wrong(self, peer: PeerId, manifest: ManifestId, now: float) -> None:
        """`peer` sent a wrong chunk of `manifest`, which we know to be true."""
        record = self._records.pop(peer, None) or _Record()
        self._records[peer] = record
        record.wrong_at = {
            each: at for each, at in record.wrong_at.items() if abs(now - at) < MEMORY_TIME
        } | {manifest: now}
        if len(record.wrong_at) >= MANIFESTS_WRONG_MAX:
            record.wrong_at = {}
            record.banned_at = now
        if len(self._records) > PEERS_MAX:
            del self._records[next(iter(self._records))]

    def is_banned(self, peer: PeerId, now: float) -> bool:
        """Whether nothing is to be fetched from `peer` now."""
        record = self._records.get(peer)
        if record is None or record.banned_at is None:
            return False
        return abs(now - record.banned_at) < BAN_TIME

    def to_map(self) -> dict[str, Any]:
        """Everything, for a file of JSON."""
        return {
            peer: {"wrong": dict(record.wrong_at), "banned": record.banned_at}
            for peer, record in self._records.items()
        }

    @classmethod
    def from_map(cls, values: Mapping[str, Any]) -> Reputation:
        """What `to_map` made. It is our own file, so it is believed.

        Raises:
          KeyError, TypeError, ValueError: it is something else.
        """
        reputation = cls()
        for peer, said in values.items():
            wrong_at = {ManifestId(manifest): float(at) for manifest, at in said["wrong"].items()}
            banned_at = None if said["banned"] is None else float(said["banned"])
            reputation._records[PeerId(peer)] = _Record(wrong_at, banned_at)
        return reputation
