"""Liars: members of the swarm whose program does what its owner wants, and not what the protocols say.

A liar holds a valid credential, so it gets in, and every connection to it works. Instead
of its cores it has a script: what it writes to each peer when it may, for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from typing import TypeAlias, cast

from ledger import spread as spreading
from ledger.entry import Author, sign_entry, sign_shared_entry
from ledger.probe import CLAIMS_MAX, RUMOURS_MAX, Claims, Gossip, Summary
from ledger.probe import Message as ProbeMessage
from ledger.rumour import Claim, Rumour, Status
from ledger.spread import Spread
from ledger.sync_messages import (
    Buckets,
    Entries,
    Held,
    Holdings,
    Message,
    News,
    Owners,
    Root,
    Wanted,
)
from ledger.version import VERSION_PART_MAX, Version
from p2p.peer import PeerId, public_key_of
from tests.sim.node import SPREAD, Node
from tests.sim.people import member

LedgerLies: TypeAlias = Callable[[Node, Random], Iterator[Message]]
ProbeLies: TypeAlias = Callable[[Node, Random], Iterator[ProbeMessage]]

LIES_PER_SECOND = 5.0
"""Frames to each peer, of each protocol: enough to be told everything many times over."""

WITHOUT_END = 20.0
"""The same: each time it writes until the window is full, so as much as back-pressure allows."""

_MAP = b"\x81\xa1n\x01"


class LyingSpread:
    """In place of a `Spread`: tells every peer a story of its own, at a rate, or without end."""

    def __init__(self, node: Node, lies: LedgerLies, *, is_endless: bool) -> None:
        self.node = node
        self.lies = lies
        self.is_endless = is_endless
        self.wake_at = node.now
        self.due: set[PeerId] = set()
        self.stories: dict[PeerId, Iterator[Message]] = {}
        """One for each peer, or each would hear a part only."""
        self.told = 0
        self.debts = 0

    def handle(self, event: spreading.Event, now: float) -> list[spreading.Effect]:
        if not isinstance(event, spreading.TimerFired):
            return []
        self.wake_at = now + 1.0 / (WITHOUT_END if self.is_endless else LIES_PER_SECOND)
        self.due = set(self.node.pipes)
        return [spreading.SendDue(peer) for peer in sorted(self.node.pipes)]

    def next_message(self, peer: PeerId, now: float) -> Message | None:
        if peer not in self.due and not self.is_endless:
            return None
        self.due.discard(peer)
        self.told += 1
        if peer not in self.stories:
            self.stories[peer] = self.lies(self.node, Random(self.node.number))
        return next(self.stories[peer], None)


def make_liar(
    node: Node, lies: LedgerLies | None = None, rumours: ProbeLies | None = None, *, is_endless: bool = False
) -> None:
    """From now on `node` tells its peers `lies` over the ledger's streams, and `rumours` over probes.

    `is_endless`: it writes to the ledger's streams as fast as they take it.
    """
    if node.world.witness is not None:
        node.world.witness.is_liar(node)
    if lies is not None:
        liar = LyingSpread(node, lies, is_endless=is_endless)
        node.spread = cast("Spread", liar)
        node.set_timer(SPREAD, liar.wake_at)
    if rumours is not None:
        told = rumours(node, Random(node.number))
        node.world.timeline.at(node.world.now, _gossip, node, told)


def _gossip(node: Node, told: Iterator[ProbeMessage]) -> None:
    if not node.is_running:
        return
    for peer in sorted(node.pipes):
        if node.pipes[peer].is_linked and (message := next(told, None)) is not None:
            node.world.network.send_probe(node.pipes[peer], message)
    node.world.timeline.at(node.world.now + 1.0 / LIES_PER_SECOND, _gossip, node, told)


def _others(node: Node) -> list[Node]:
    return [each for each in node.world if each is not node]


# Lies over the ledger's stream.


def forged_owner(node: Node, rng: Random) -> Iterator[Message]:
    """Entries in the name of others, signed by the liar."""
    while True:
        victim = rng.choice(_others(node))
        # The victim's credential is in each of its entries, for everybody to copy.
        forger = Author(node.author.identity, victim.author.credential)
        mine = sign_entry(forger, "model/forged", Version(9, rng.randrange(10**6)), _MAP)
        forged = mine.encoded.replace(node.author.identity.public_key, public_key_of(victim.peer), 1)
        yield News((forged,))


def altered_value(node: Node, rng: Random) -> Iterator[Message]:
    """What others wrote, with one bit of the signature turned."""
    while True:
        entry = rng.choice(list(rng.choice(_others(node)).replica.state.entries()))
        altered = bytearray(entry.encoded)
        altered[-1] ^= 1 << rng.randrange(8)
        yield Entries((bytes(altered),))


def swarm_wide_without_right(node: Node, _: Random) -> Iterator[Message]:
    """Decisions for the whole swarm, by a member who may make none."""
    for number in count(1):
        yield News((sign_shared_entry(node.author, "alias/mine", number, _MAP).encoded,))


def old_entries(node: Node, rng: Random) -> Iterator[Message]:
    """All that anybody ever said, again and again."""
    heard = [entry.encoded for entry in node.replica.state.entries()]
    while True:
        heard += [entry.encoded for entry in node.replica.state.entries()][: 500 - len(heard)]
        yield Entries(tuple(rng.sample(heard, min(40, len(heard)))))


def huge_values(node: Node, _: Random) -> Iterator[Message]:
    """Values of a hundred kilobytes."""
    for number in count(1):
        value = b"\x81\xa1n\xc6" + (100_000).to_bytes(4, "big") + bytes(100_000)
        yield News((sign_entry(node.author, f"model/{number % 7}", Version(1, number + 99), value).encoded,))


def keys_without_end(node: Node, _: Random) -> Iterator[Message]:
    """One key after the other, each with a value."""
    for number in count(step=20):
        versions = [(key, Version(1, key + 99)) for key in range(number, number + 20)]
        told = (sign_entry(node.author, f"model/{key}", version, _MAP) for key, version in versions)
        yield News(tuple(entry.encoded for entry in told))


def versions_from_the_future(node: Node, _: Random) -> Iterator[Message]:
    """Writes that nothing could ever follow."""
    while True:
        yield News(
            (
                sign_entry(node.author, "model/last", Version(VERSION_PART_MAX + 1, 0), _MAP).encoded,
                sign_entry(node.author, "model/last", Version(1, 2**63), _MAP).encoded,
            )
        )


def unknown_formats(node: Node, rng: Random) -> Iterator[Message]:
    """Entries of a format that no program writes yet."""
    while True:
        yield News((b"\xfa" + rng.randbytes(200), b"\x03"))


def endless_digests(node: Node, rng: Random) -> Iterator[Message]:
    """Roots that are never equal, owners that do not exist, keys that nobody holds: answers without end."""
    while True:
        owners = [member(5000 + rng.randrange(2000)).peer for _ in range(30)]
        yield Root(rng.randbytes(16))
        yield Buckets(tuple(rng.randbytes(16) for _ in range(32)))
        yield Owners(tuple(range(32)), {owner: rng.randbytes(16) for owner in owners})
        held = tuple(Held(f"key {rng.random()}", Version(1, 5), rng.randbytes(16)) for _ in range(100))
        yield Holdings({owners[0]: held})
        yield Wanted({owner: tuple(f"{rng.random()}" for _ in range(50)) for owner in owners})
        # And what there is, each time: without a bound, seventy bytes would ask for all that somebody said.
        real = [other.peer for other in node.world]
        yield Holdings(dict.fromkeys(real, ()))


def contradictions(_: Node, rng: Random) -> Iterator[Message]:
    """Messages that break the protocol: owners in buckets that they do not belong to."""
    while True:
        owner = member(5000).peer
        yield Owners((), {owner: rng.randbytes(16)})


# Lies over the probe stream.


def everybody_is_gone(node: Node, rng: Random) -> Iterator[ProbeMessage]:
    """That everybody is offline, again and again, at ever higher incarnations."""
    for incarnation in count(1):
        peers = [each.peer for each in _others(node)]
        few = rng.sample(peers, min(RUMOURS_MAX, len(peers)))
        yield Gossip(tuple(Rumour(peer, Claim(incarnation, Status.OFFLINE)) for peer in few))
        yield Claims(
            tuple(Rumour(peer, Claim(2**60 + incarnation, Status.OFFLINE)) for peer in peers[:CLAIMS_MAX])
        )


def strangers_live(_: Node, rng: Random) -> Iterator[ProbeMessage]:
    """News of thousands whom nobody knows, and summaries that are never equal."""
    while True:
        strangers = [PeerId(f"stranger {rng.random()}") for _ in range(RUMOURS_MAX)]
        yield Gossip(tuple(Rumour(peer, Claim(1, Status.ALIVE)) for peer in strangers))
        yield Summary(rng.randbytes(256))


def in_turn(*names: str) -> LedgerLies:
    """All of these lies, one frame of each after the other."""

    def tell(node: Node, rng: Random) -> Iterator[Message]:
        stories = [LEDGER_LIES[name][0](node, rng) for name in names]
        while True:
            yield from map(next, stories)

    return tell


ENDING_THE_STREAM = ("altered value", "contradictions", "forged owner")
"""What nobody says by mistake: who hears it hears nothing else for a while."""

LEDGER_LIES: dict[str, tuple[LedgerLies, str]] = {
    # And the reason for which honest nodes refuse it; empty: no entry is refused, for none is sent.
    "forged owner": (forged_owner, "bad_signature"),
    "altered value": (altered_value, "bad_signature"),
    "swarm-wide without right": (swarm_wide_without_right, "not_the_owner"),
    "old entries": (old_entries, "stale"),
    "huge values": (huge_values, "too_large"),
    "keys without end": (keys_without_end, "over_quota"),
    "versions from the future": (versions_from_the_future, "too_far_ahead"),
    "unknown formats": (unknown_formats, "unknown_format"),
    "endless digests": (endless_digests, ""),
    "contradictions": (contradictions, ""),
}

PROBE_LIES: dict[str, ProbeLies] = {
    "everybody is gone": everybody_is_gone,
    "strangers live": strangers_live,
}
