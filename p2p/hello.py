"""`/localai-node/hello/1`: who we are, our right to be here, and in the end goodbye.

    smaller peer id                larger peer id
      | ------------ stream ----------> |      the smaller id opens it, whoever dialled
      | -- HELLO -------------------->  |
      | <-------------------- HELLO --  |      at once; neither waits for the other's
      | <---------------- ADDRESSES --  |      where other members are; both ways, any time
      | <---------------------- BYE --  |      either way: the last word, and why

No stream of another protocol is answered before a HELLO with a valid credential.
The stream then stays open for as long as the connection: on a peer that dies it
ends within milliseconds. An end without BYE is therefore evidence of a death.

A later version keeps these kinds and adds keys; a peer that cannot be understood
at all does not speak this protocol id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

from p2p.credential import Credential
from p2p.errors import BadFrame, BadPeerId, NotAdmitted
from p2p.fields import Fields
from p2p.peer import PEER_ID_TEXT_MAX, PeerAddress, PeerId, parse_peer_id

PROTOCOL_ID = "/localai-node/hello/1"

FRAME_SIZE_MAX = 64 * 1024
"""The largest frame is ADDRESSES: 32 peers with 8 addresses of 128 characters are 35 KiB."""

_ADDRESSES_SIZE_MAX = FRAME_SIZE_MAX - 1024
"""Bytes of the peers in one frame; the rest is more than the map around them takes."""

_ITEM_SIZE_MAX = 8
"""Bytes that msgpack puts before a text or a list of this size: five at most, and a list in a list."""

ADDRESS_PEERS_MAX = 32
"""Peers in one ADDRESSES; more take several frames."""

ADDRESSES_PER_PEER_MAX = 8
"""A machine on two networks has four, with IPv6 and a VPN some more."""

MULTIADDR_LENGTH_MAX = 128
"""An address with a long host name; the resolver's limit of 255 is not met at home."""

NAME_LENGTH_MAX = 64
"""Of a node's name, its version and its boot id: a line of `status` has room for no more."""

BYE_TEXT_LENGTH_MAX = 256
"""One line for a person."""

_KIND_MAX = 255
"""More kinds than there will ever be."""

# Words of BYE. Append only. A word that is not known is no error: it means goodbye all the same.
LEAVE = "leave"  # It gave its place up.
AWAY = "away"  # It stops, and will be back.
REFUSED = "refused"  # The credential did not hold; the text says why.
COPIED_HOME = "copied_home"  # Another process runs under the same key.
MISBEHAVED = "misbehaved"  # What was sent broke a protocol.
NO_HELLO = "no_hello"  # No HELLO came in time.
CROWDED = "crowded"  # More connections than this node takes.
ENOUGH = "enough"  # More than it keeps. No fault of anybody's, and no word on who lives: the swarm is large.

GOING = frozenset({LEAVE, AWAY})
"""The words of a peer that goes. After any other it is as much alive as before."""


class Kind(IntEnum):
    """What a frame is. The numbers are on the wire: append only."""

    HELLO = 1
    ADDRESSES = 2
    BYE = 3


@dataclass(frozen=True, slots=True)
class Hello:
    """Who is there."""

    name: str
    """For people."""
    version: str
    """Of the program."""
    boot_id: str
    """New at each start of the process: two alive at once are a copied home."""
    credential: Credential
    addresses: tuple[str, ...] = ()
    """Multiaddrs the sender listens on, without `/p2p/`."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where other members can be found."""

    addresses: tuple[PeerAddress, ...]


@dataclass(frozen=True, slots=True)
class Bye:
    """The connection will be closed on purpose."""

    reason: str
    """One of the words above."""
    text: str = ""
    """What a person at the other end should read."""


Message: TypeAlias = Hello | Addresses | Bye


def printable(text: str, length_max: int) -> str:
    """`text` as a peer would accept it: on one line, no control characters, and cut to length."""
    return "".join(character for character in text if character.isprintable())[:length_max]


def to_wire(message: Message) -> dict[str, Any]:
    """`message` as the map of one frame."""
    match message:
        case Hello():
            return {
                "kind": Kind.HELLO.value,
                "name": message.name,
                "version": message.version,
                "boot_id": message.boot_id,
                "credential": message.credential.to_wire(),
                "addresses": list(message.addresses[:ADDRESSES_PER_PEER_MAX]),
            }
        case Addresses():
            of_peer: dict[PeerId, list[str]] = {}
            for address in message.addresses:
                of_peer.setdefault(address.peer, []).append(address.multiaddr)
            return {
                "kind": Kind.ADDRESSES.value,
                "peers": [[peer, places] for peer, places in of_peer.items()],
            }
        case Bye():
            return {
                "kind": Kind.BYE.value,
                "reason": printable(message.reason, NAME_LENGTH_MAX),
                "text": printable(message.text, BYE_TEXT_LENGTH_MAX),
            }


def from_wire_untrusted(frame: Mapping[str, Any]) -> Message:
    """The message in `frame`.

    Raises:
      BadFrame: and nothing else, whatever it holds.
    """
    fields = Fields(frame)
    match fields.whole("kind", 0, _KIND_MAX):
        case Kind.HELLO:
            return _hello(fields, frame.get("credential"))
        case Kind.ADDRESSES:
            groups = fields.rows("peers", ADDRESS_PEERS_MAX, ("peer", "addresses"))
            return Addresses(tuple(address for group in groups for address in _peer_addresses(group)))
        case Kind.BYE:
            return Bye(_line(fields, "reason", NAME_LENGTH_MAX), _line(fields, "text", BYE_TEXT_LENGTH_MAX))
        case kind:
            raise BadFrame(f"a hello frame of kind {kind}")


def is_multiaddr(text: str) -> bool:
    """Whether `text` may be one; whether it can be dialled is found out by dialling."""
    # ASCII, so that a character is a byte and the limits on characters bound a frame.
    looks_like_one = text.startswith("/") and "/p2p/" not in text and text.isascii() and text.isprintable()
    return looks_like_one and len(text) <= MULTIADDR_LENGTH_MAX


def in_frames(members: Iterable[tuple[PeerId, tuple[str, ...]]]) -> Iterable[Addresses]:
    """The addresses of those `members` that have any, in messages that keep to the limits."""
    group: list[PeerAddress] = []
    count = size = 0
    for peer, places in members:
        if not places:
            continue
        row_size = _ITEM_SIZE_MAX * (len(places) + 1) + len(peer) + sum(len(each.encode()) for each in places)
        if count == ADDRESS_PEERS_MAX or (group and size + row_size > _ADDRESSES_SIZE_MAX):
            yield Addresses(tuple(group))
            group, count, size = [], 0, 0
        group += [PeerAddress(peer, place) for place in places]
        count, size = count + 1, size + row_size
    if group:
        yield Addresses(tuple(group))


def _hello(fields: Fields, credential: object) -> Hello:
    try:
        checked = Credential.from_wire_untrusted(credential)
    except NotAdmitted as error:
        raise BadFrame(str(error)) from error
    name, version, boot_id = (_line(fields, each, NAME_LENGTH_MAX) for each in ("name", "version", "boot_id"))
    return Hello(name, version, boot_id, checked, _multiaddrs(fields))


def _peer_addresses(group: Fields) -> list[PeerAddress]:
    try:
        peer = parse_peer_id(group.text("peer", PEER_ID_TEXT_MAX))
    except BadPeerId as error:
        raise BadFrame(str(error)) from error
    return [PeerAddress(peer, multiaddr) for multiaddr in _multiaddrs(group)]


def _multiaddrs(fields: Fields) -> tuple[str, ...]:
    multiaddrs = fields.texts("addresses", ADDRESSES_PER_PEER_MAX, MULTIADDR_LENGTH_MAX)
    if not all(is_multiaddr(text) for text in multiaddrs):
        raise BadFrame("an address that is not a multiaddr")
    return multiaddrs


def _line(fields: Fields, name: str, length_max: int) -> str:
    """Text that can be logged and shown in a terminal as it is."""
    text = fields.text(name, length_max)
    if not text.isprintable():
        raise BadFrame(f"{name} is not one printable line")
    return text
