"""One side of `/localai-node/ledger/1` (see `sync_messages.py`), as a list of debts.

A message from the peer is never answered on the spot: it adds to what we owe, and
`next_message` pays one bounded part of that from the state as it is by then. Debts
of one kind merge, so a peer that asks a thousand times while it reads nothing costs
one answer, and a slow one gets the newest entries only. That is the whole of
back-pressure, and why reading never waits for writing.

A peer that refuses what we have, because it is older or full, stays different from us.
What an exchange has left as it was is exchanged again ever more rarely.

Decides only; `spread.py` says when, `replicate.py` moves the frames.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from ledger.entry import Entry, Place
from ledger.state import BUCKETS, LedgerState, bucket_of
from ledger.sync_messages import Buckets, Entries, Held, Holdings, Message, News, Owners, Root, Wanted
from p2p.errors import BadFrame
from p2p.peer import PeerId

PART_SIZE_MAX = 48 * 1024
"""Of one frame, where what it carries can be split. The peer checks its 200 or so signatures
in 20 ms, short enough for everything else on its event loop."""

WANTED_MAX = 4096
"""Keys we ask for at a time: a peer may claim to hold any number. The next round asks for the rest."""

_HELD_OVERHEAD = 45
"""Bytes a key takes in holdings besides its own: version, digest and msgpack's marks."""
_OWNER_OVERHEAD = 40
"""The same of an owner."""


@dataclass(slots=True)
class _Difference:
    """What two replicas hold of one owner, by digest, and how often they met like this."""

    theirs: bytes | None
    ours: bytes | None
    meetings: int = 1

    @property
    def is_worth_a_try(self) -> bool:
        """At the 1st, 2nd, 4th, 8th ... meeting: an answer may have been lost, or refused for ever."""
        return self.meetings & (self.meetings - 1) == 0


class SyncSession:
    """What we owe one peer. `state` belongs to the caller, who changes it between calls."""

    def __init__(self, state: LedgerState) -> None:
        self._state = state
        self._owes_root = False
        self._owes_buckets = False
        self._buckets: set[int] = set()
        self._holdings: set[PeerId] = set()
        self._wanted: set[Place] = set()
        self._entries: OrderedDict[Place, None] = OrderedDict()
        self._fruitless: dict[PeerId, _Difference] = {}
        """Owners we differ in, as they were when we last exchanged them."""
        self._news: OrderedDict[Place, None] = OrderedDict()
        """In the order they became due, so that one that changes all the time cannot hold up the others."""

    def begin_round(self) -> None:
        """Compare everything with the peer, beginning at the root."""
        self._owes_root = True

    def push(self, place: Place) -> None:
        """Send what stands at `place`, if anything does, as news."""
        if self._state.get(place.owner, place.key) is not None:
            self._news[place] = None

    @property
    def debts(self) -> int:
        """How many things we owe: bounded, whatever the peer asks for."""
        owed = (self._buckets, self._holdings, self._wanted, self._entries, self._news, self._fruitless)
        return sum(len(each) for each in owed)

    @property
    def owes_news(self) -> bool:
        """Something was pushed that no message has taken along yet."""
        return bool(self._news)

    @property
    def owes_answers(self) -> bool:
        """The peer asked for something that no message has taken along yet."""
        return bool(self._owes_buckets or self._buckets or self._holdings or self._entries)

    def handle(self, message: Message, *, may_ask: bool = True) -> Entries | News | None:
        """Take note of what the peer said; returns the message if it is for the ledger.

        `may_ask`: whether this is the time to ask for what we lack. If not, a later round will.

        Raises:
          BadFrame: it contradicts itself.
        """
        match message:
            case Root(digest):
                self._owes_buckets |= digest != self._state.root_digest()
            case Buckets(digests):
                ours = self._state.bucket_digests()
                if may_ask:
                    differing = (bucket for bucket in range(BUCKETS) if digests[bucket] != ours[bucket])
                    self._buckets.update(differing)
            case Owners():
                self._on_owners(message, may_ask=may_ask)
            case Holdings(of):
                for owner in sorted(of):
                    self._on_holdings(owner, of[owner])
            case Wanted(keys):
                self._owe(entry for owner in sorted(keys) for entry in self._find(owner, keys[owner]))
            case Entries() | News():
                return message
        return None

    def next_message(self, *, may_answer: bool = True) -> Message | None:
        """The next part of what we owe, or None when we owe nothing. News never waits behind a round.

        `may_answer`: whether what the peer asked for is due too. It stays owed.
        """
        if news := self._pay(self._news):
            return News(news)
        if self._owes_root:
            self._owes_root = False
            return Root(self._state.root_digest())
        if self._wanted:
            return self._pay_wanted()  # No larger than the holdings that made us ask.
        return self._next_answer() if may_answer else None

    def _next_answer(self) -> Buckets | Owners | Holdings | Entries | None:
        """The next part of what the peer asked for."""
        if self._owes_buckets:
            self._owes_buckets = False
            return Buckets(tuple(self._state.bucket_digests()))
        if self._buckets:
            return self._pay_owners()
        if self._holdings:
            return self._pay_holdings()
        entries = self._pay(self._entries)
        return Entries(entries) if entries else None

    def _on_owners(self, message: Owners, *, may_ask: bool) -> None:
        buckets = set(message.buckets)
        if any(bucket_of(owner) not in buckets for owner in message.digests):
            raise BadFrame("an owner in none of the buckets the message is about")
        for bucket in sorted(buckets):
            for owner in self._state.owners_in(bucket):
                if owner not in message.digests and self._is_worth_a_try(owner, None):
                    self._owe(self._state.entries_of(owner))
        for owner, digest in message.digests.items() if may_ask else ():
            is_room = len(self._holdings) < self._state.limits.owners_max
            if is_room and self._is_worth_a_try(owner, digest):
                self._holdings.add(owner)

    def _is_worth_a_try(self, owner: PeerId, theirs: bytes | None) -> bool:
        """Whether an exchange about `owner` may make us more equal than the last one did."""
        ours = self._state.owner_digest(owner)
        before = self._fruitless.get(owner)
        if theirs == ours:
            self._fruitless.pop(owner, None)
            return False
        if before is not None and (before.theirs, before.ours) == (theirs, ours):
            before.meetings += 1
            return before.is_worth_a_try
        if len(self._fruitless) < 2 * self._state.limits.owners_max:  # Theirs, and ours.
            self._fruitless[owner] = _Difference(theirs, ours)
        return True

    def _on_holdings(self, owner: PeerId, theirs: tuple[Held, ...]) -> None:
        ranks = {held.key: (held.version, held.digest) for held in theirs}
        for entry in self._state.entries_of(owner):
            rank = ranks.pop(entry.key, None)
            if rank is None or rank < entry.rank:
                self._owe([entry])
            elif rank > entry.rank:
                self._want(owner, entry.key, rank[0].epoch)
        for key, (version, _) in ranks.items():
            self._want(owner, key, version.epoch)

    def _find(self, owner: PeerId, keys: Iterable[str]) -> Iterable[Entry]:
        found = (self._state.get(owner, key) for key in keys)
        return (entry for entry in found if entry is not None)

    def _owe(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self._entries[entry.place] = None

    def _want(self, owner: PeerId, key: str, epoch: int) -> None:
        is_known_refused = self._state.is_below_floor(owner, epoch)
        is_acceptable = len(key.encode()) <= self._state.limits.key_size_max and not is_known_refused
        if is_acceptable and len(self._wanted) < WANTED_MAX:
            self._wanted.add(Place(owner, key))

    def _pay_owners(self) -> Owners:
        buckets = tuple(sorted(self._buckets))
        self._buckets.clear()
        owners = [owner for bucket in buckets for owner in self._state.owners_in(bucket)]
        return Owners(buckets, {owner: self._state.owner_digest(owner) or b"" for owner in owners})

    def _pay_wanted(self) -> Wanted:
        keys: dict[PeerId, list[str]] = {}
        room = PART_SIZE_MAX
        for owner, key in sorted(self._wanted):
            room -= _OWNER_OVERHEAD + len(key.encode())
            if room < 0 and keys:
                break
            keys.setdefault(owner, []).append(key)
            self._wanted.discard(Place(owner, key))
        return Wanted({owner: tuple(owner_keys) for owner, owner_keys in keys.items()})

    def _pay_holdings(self) -> Holdings:
        """An owner's holdings stay whole: a key that is missing there is one we do not have."""
        of: dict[PeerId, tuple[Held, ...]] = {}
        room = PART_SIZE_MAX
        for owner in sorted(self._holdings):
            held = tuple(Held(e.key, e.version, e.digest) for e in self._state.entries_of(owner))
            room -= _OWNER_OVERHEAD + sum(_HELD_OVERHEAD + len(each.key.encode()) for each in held)
            if room < 0 and of:
                break
            of[owner] = held
            self._holdings.discard(owner)
        return Holdings(of)

    def _pay(self, due: OrderedDict[Place, None]) -> tuple[bytes, ...]:
        encoded: list[bytes] = []
        room = PART_SIZE_MAX
        while due:
            place = next(iter(due))
            entry = self._state.get(place.owner, place.key)
            if entry is None:  # It fell below a floor, which goes its own way.
                del due[place]
                continue
            room -= len(entry.encoded)
            if room < 0 and encoded:
                break
            encoded.append(entry.encoded)
            del due[place]
        return tuple(encoded)


def answer_size(message: Message) -> int:
    """The bytes of a message that answers a question, nearly; of any other 0."""
    match message:
        case Buckets(digests):
            return sum(len(digest) for digest in digests)
        case Owners(_, digests):
            return _OWNER_OVERHEAD * len(digests)
        case Holdings(of):
            keys = sum(_HELD_OVERHEAD + len(held.key.encode()) for theirs in of.values() for held in theirs)
            return _OWNER_OVERHEAD * len(of) + keys
        case Entries(encoded):
            return sum(len(each) for each in encoded)
    return 0
