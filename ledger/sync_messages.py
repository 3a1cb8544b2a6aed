"""`/localai-node/ledger/1`: two replicas become equal, on one stream that stays open.

    one                               other
     | -- root --------------------->  |    equal: silence, and that is all it costs
     | <------------------ buckets --  |    else: my digest of each bucket
     | -- owners ------------------->  |    of each bucket that differs: its owners, a digest each
     | <----------------- holdings --  |    of each owner that differs: its keys, with their ranks
     | <------------------ entries --  |    of each owner the first did not list
     | -- entries ------------------>  |    what is newer here
     | -- wanted ------------------->  |    what is newer there
     | <------------------ entries --  |

Both sides may start, at any time. A new write does not wait for that: it goes out at
once as `news`, and who learns from it passes it on. No message refers to one before
it, so any may be lost, repeated or answered late; each is answered from the state as
it is then.

Frames are msgpack maps with a `kind`. Owners travel as raw public keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ledger.entry import DIGEST_SIZE
from ledger.state import BUCKETS
from ledger.version import Version
from p2p.errors import BadFrame
from p2p.fields import Fields
from p2p.identity import PUBLIC_KEY_SIZE
from p2p.peer import PeerId, peer_id_of, public_key_of

LEDGER_PROTOCOL = "/localai-node/ledger/1"

FRAME_SIZE_MAX = 256 * 1024
"""Holds, at the limits in `state.py`, the holdings of one owner (1024 keys of 205 bytes) or
the list of all owners (4096 of 53 bytes). Everything that can be split is split far smaller."""

_COUNT_MAX = FRAME_SIZE_MAX
"""Items of a list; no frame has room for more. What one owner may have is for `state.py` to say."""

_VERSION_PART_MAX = 2**64 - 1
"""What an entry has room for. Which versions are believed is for `state.py` to say."""

_KIND_LENGTH_MAX = 40
"""Characters; more is not worth quoting in an error."""


@dataclass(frozen=True, slots=True)
class Root:
    """This is the digest of all I hold."""

    digest: bytes


@dataclass(frozen=True, slots=True)
class Buckets:
    """These are the digests of my buckets, in order."""

    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Owners:
    """These are all owners I hold in these buckets."""

    buckets: tuple[int, ...]
    digests: Mapping[PeerId, bytes]


@dataclass(frozen=True, slots=True)
class Held:
    """One entry by its rank."""

    key: str
    version: Version
    digest: bytes


@dataclass(frozen=True, slots=True)
class Holdings:
    """This is all I hold of these owners."""

    of: Mapping[PeerId, tuple[Held, ...]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Send me these."""

    keys: Mapping[PeerId, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Entries:
    """Take these in."""

    encoded: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class News:
    """Take these in, and pass on what is new to you."""

    encoded: tuple[bytes, ...]


Message: TypeAlias = Root | Buckets | Owners | Holdings | Wanted | Entries | News


def encode_message(message: Message) -> dict[str, Any]:
    """`message` as the map that goes into a frame."""
    match message:
        case Root(digest):
            return {"kind": "root", "digest": digest}
        case Buckets(digests):
            return {"kind": "buckets", "digests": b"".join(digests)}
        case Owners(buckets, owner_digests):
            owners = [[public_key_of(owner), digest] for owner, digest in owner_digests.items()]
            return {"kind": "owners", "buckets": list(buckets), "owners": owners}
        case Holdings(of):
            return {
                "kind": "holdings",
                "owners": [[public_key_of(o), _encode_held(h)] for o, h in of.items()],
            }
        case Wanted(keys):
            return {
                "kind": "wanted",
                "owners": [[public_key_of(owner), list(k)] for owner, k in keys.items()],
            }
        case Entries(encoded):
            return {"kind": "entries", "entries": list(encoded)}
        case News(encoded):
            return {"kind": "news", "entries": list(encoded)}


def decode_message_untrusted(frame: Mapping[str, Any]) -> Message:
    """The message in `frame`.

    Raises:
      BadFrame: it is of no kind we know, or not what its kind promises.
    """
    fields = Fields(frame)
    match fields.text("kind", _KIND_LENGTH_MAX):
        case "root":
            return Root(_digest(fields))
        case "buckets":
            joined = fields.data("digests", DIGEST_SIZE * BUCKETS)
            return Buckets(tuple(joined[i : i + DIGEST_SIZE] for i in range(0, len(joined), DIGEST_SIZE)))
        case "owners":
            buckets = fields.wholes("buckets", BUCKETS, BUCKETS - 1)
            return Owners(buckets, {_owner(row): _digest(row) for row in _owners(fields, "digest")})
        case "holdings":
            return Holdings({_owner(row): _held(row) for row in _owners(fields, "entries")})
        case "wanted":
            return Wanted({_owner(row): _keys(row) for row in _owners(fields, "keys")})
        case "entries":
            return Entries(fields.datas("entries", _COUNT_MAX))
        case "news":
            return News(fields.datas("entries", _COUNT_MAX))
        case kind:
            raise BadFrame(f"no ledger message is of the kind {kind!r}")


def _encode_held(entries: tuple[Held, ...]) -> list[list[Any]]:
    return [[e.key, e.version.epoch, e.version.counter, e.digest] for e in entries]


def _owners(fields: Fields, what: str) -> Iterator[Fields]:
    """Owners, and `what` is said of each."""
    return fields.rows("owners", _COUNT_MAX, ("owner", what))


def _owner(fields: Fields) -> PeerId:
    return peer_id_of(fields.data("owner", PUBLIC_KEY_SIZE))


def _digest(fields: Fields) -> bytes:
    return fields.data("digest", DIGEST_SIZE)


def _keys(fields: Fields) -> tuple[str, ...]:
    return fields.texts("keys", _COUNT_MAX, FRAME_SIZE_MAX)


def _held(fields: Fields) -> tuple[Held, ...]:
    rows = fields.rows("entries", _COUNT_MAX, ("key", "epoch", "counter", "digest"))
    return tuple(
        Held(
            row.text("key", FRAME_SIZE_MAX), Version(_part(row, "epoch"), _part(row, "counter")), _digest(row)
        )
        for row in rows
    )


def _part(fields: Fields, name: str) -> int:
    return fields.whole(name, 0, _VERSION_PART_MAX)
