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

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ledger.entry import DIGEST_SIZE
from ledger.state import BUCKETS
from ledger.version import Version
from p2p.errors import BadFrame
from p2p.identity import PUBLIC_KEY_SIZE
from p2p.peer import PeerId, peer_id_of, public_key_of

LEDGER_PROTOCOL = "/localai-node/ledger/1"

FRAME_SIZE_MAX = 256 * 1024
"""Holds, at the limits in `state.py`, the holdings of one owner (1024 keys of 205 bytes) or
the list of all owners (4096 of 53 bytes). Everything that can be split is split far smaller."""


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
    kind = frame.get("kind")
    decode = _DECODERS.get(kind) if isinstance(kind, str) else None
    if decode is None:
        raise BadFrame(f"no ledger message is of the kind {kind!r:.40}")
    try:
        return decode(frame)
    except (KeyError, TypeError, ValueError) as error:
        raise BadFrame(f"a ledger message of kind {kind} with wrong content") from error


def _encode_held(entries: tuple[Held, ...]) -> list[list[Any]]:
    return [[e.key, e.version.epoch, e.version.counter, e.digest] for e in entries]


def _decode_root(frame: Mapping[str, Any]) -> Root:
    return Root(_digest(frame["digest"]))


def _decode_buckets(frame: Mapping[str, Any]) -> Buckets:
    joined = _bytes(frame["digests"], DIGEST_SIZE * BUCKETS)
    return Buckets(tuple(joined[i : i + DIGEST_SIZE] for i in range(0, len(joined), DIGEST_SIZE)))


def _decode_owners(frame: Mapping[str, Any]) -> Owners:
    buckets = tuple(_number(bucket, BUCKETS - 1) for bucket in _list(frame["buckets"]))
    return Owners(buckets, {_owner(owner): _digest(digest) for owner, digest in _list(frame["owners"])})


def _decode_holdings(frame: Mapping[str, Any]) -> Holdings:
    return Holdings({_owner(owner): _decode_held(entries) for owner, entries in _list(frame["owners"])})


def _decode_held(entries: object) -> tuple[Held, ...]:
    return tuple(
        Held(_text(key), Version(_number(epoch), _number(counter)), _digest(digest))
        for key, epoch, counter, digest in _list(entries)
    )


def _decode_wanted(frame: Mapping[str, Any]) -> Wanted:
    owners = _list(frame["owners"])
    return Wanted({_owner(owner): tuple(_text(key) for key in _list(keys)) for owner, keys in owners})


def _decode_entries(frame: Mapping[str, Any]) -> Entries:
    return Entries(_all_bytes(frame["entries"]))


def _decode_news(frame: Mapping[str, Any]) -> News:
    return News(_all_bytes(frame["entries"]))


_DECODERS: dict[str, Callable[[Mapping[str, Any]], Message]] = {
    "root": _decode_root,
    "buckets": _decode_buckets,
    "owners": _decode_owners,
    "holdings": _decode_holdings,
    "wanted": _decode_wanted,
    "entries": _decode_entries,
    "news": _decode_news,
}


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _number(value: object, largest: int = 2**64 - 1) -> int:
    if not isinstance(value, int) or not 0 <= value <= largest:
        raise ValueError("not a number in range")
    return value


def _bytes(value: object, size: int | None = None) -> bytes:
    if not isinstance(value, bytes) or (size is not None and len(value) != size):
        raise TypeError("not bytes of that size")
    return value


def _all_bytes(value: object) -> tuple[bytes, ...]:
    return tuple(_bytes(each) for each in _list(value))


def _digest(value: object) -> bytes:
    return _bytes(value, DIGEST_SIZE)


def _owner(value: object) -> PeerId:
    return peer_id_of(_bytes(value, PUBLIC_KEY_SIZE))
