"""Every decoder that reads what another machine, or a file, says: one row each.

A row has valid inputs and the one exception that the decoder may raise. Where what was read can be
said again, the row says it again, and what comes back must be the same: a decoder that lets nonsense
through is caught by that.

The values of a frame are read behind `FrameDecoder`, as they are in the program, so each row gets past
the length and msgpack, and meets those too.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgpack
from zeroconf import ServiceInfo

from federation import infer_codec, load_feed
from federation.infer import FRAME_SIZE_MAX as INFER_FRAME_SIZE_MAX
from federation.request_codec import decode_request_untrusted, encode_request
from ledger import probe, sync_messages
from ledger.entry import Entry, decode_entry_untrusted
from ledger.errors import BadEntry, BadRecord
from ledger.floor import floor_count
from ledger.proof import Proofs
from ledger.record_fields import decode_value_untrusted, encode_value
from ledger.records import Record, decode_record, encode_record, key_of
from node.engine import wire, wire_codec
from p2p import hello, mdns, yamux_frames
from p2p.blobs import blob_messages
from p2p.blobs.blob_messages import FRAME_SIZE_MAX as BLOB_FRAME_SIZE_MAX
from p2p.blobs.errors import BadManifest
from p2p.blobs.manifest import decode_manifest_untrusted
from p2p.credential import Credential
from p2p.errors import BadFrame, BadMembership, BadToken, NotAdmitted, P2PError
from p2p.fields import Fields
from p2p.framing import encode_frame
from p2p.membership import SwarmMembership
from p2p.peer import PeerAddress
from p2p.token import Token
from tests.fuzz import seeds, streams
from tests.fuzz.decoder import Decoder, framed
from tests.ledger.people import FOUNDER


def _token_text(body: bytes) -> str:
    """A token around any body, with a checksum that is right."""
    checksum = hashlib.sha256(body).digest()[:4]
    return "lnode1" + base64.urlsafe_b64encode(body + checksum).decode().rstrip("=")


def _token_body(token: Token) -> bytes:
    text = token.encode().removeprefix("lnode1")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))[:-4]


class _NothingMadeSense(Exception):
    """Nothing was raised, and nothing is left."""


def _decode_announcement(data: bytes) -> list[PeerAddress]:
    """The TXT properties of a service, as zeroconf reads them out of a packet of anybody on the LAN.

    What makes no sense is left out and nothing is raised: if nothing is left, that counts as refused here.
    """
    info = ServiceInfo("_localai._tcp.local.", "somebody._localai._tcp.local.", properties=data)
    addresses = mdns.addresses_untrusted(info.properties)
    if not addresses:
        raise _NothingMadeSense
    return addresses


def _announcement(addresses: list[PeerAddress]) -> bytes:
    """TXT data: a length before each `key=value`."""
    pairs = [f"{number}={address}".encode() for number, address in enumerate(addresses)]
    return b"".join(bytes([len(pair)]) + pair for pair in pairs)


def _decode_credential(data: bytes) -> Credential:
    """As it stands in an entry, and checked: a credential that can be read can be verified or not."""
    entry = seeds.ENTRIES[0]
    carrier = Entry(
        entry.writer, entry.scope, entry.key, entry.version, b"", False, data + bytes(64), b"", len(data)
    )
    credential = carrier.credential()
    with suppress(NotAdmitted):
        credential.verify_member(FOUNDER.public_key, seeds.ALICE.peer)
    return credential


def _decode_entry(data: bytes) -> Entry:
    """And all that is asked of an entry that could be read."""
    entry = decode_entry_untrusted(data)
    Proofs(FOUNDER.public_key).grant(entry)
    entry.is_signed_by_writer()
    floor_count(entry)
    return entry


def _record_row(record: Record) -> Decoder:
    """Any value, read as what stands under the key of `record`."""
    key = key_of(record)
    return Decoder(
        f"ledger/records {key.partition('/')[0]}",
        [encode_value({**encode_record(record), **later}) for later in ({}, {"later": {"x": [1, {}]}})],
        lambda data: decode_record(key, decode_value_untrusted(data)),
        BadRecord,
        lambda read: encode_value(encode_record(read)),
    )


_FIELDS: dict[str, tuple[Any, Callable[[Fields, str], Any]]] = {
    "whole": (5, lambda fields, name: fields.whole(name, 0, 9)),
    "number": (0.5, lambda fields, name: fields.number(name, 0, 9)),
    "flag": (True, lambda fields, name: fields.flag(name)),
    "text": ("text", lambda fields, name: fields.text(name, 9)),
    "data": (b"12", lambda fields, name: fields.data(name, 2)),
    "data_up_to": (b"1", lambda fields, name: fields.data_up_to(name, 2)),
    "fields": ({"a": 1, "b": "c"}, lambda fields, name: fields.fields(name).names(2)),
    "row": ([1, 2, 3], lambda fields, name: fields.row(name, ("a", "b"), ("c",)).whole("b", 0, 9)),
    "rows": ([[1], [2]], lambda fields, name: [row.whole("a", 0, 9) for row in fields.rows(name, 9, ("a",))]),
    "texts": (["a", "b"], lambda fields, name: fields.texts(name, 3, 9)),
    "wholes": ([1, 2], lambda fields, name: fields.wholes(name, 3, 9)),
    "datas": ([b"a", b""], lambda fields, name: fields.datas(name, 3)),
    "maps": ([{"a": 1}, {}], lambda fields, name: fields.maps(name, 3)),
    "word": ("red", lambda fields, name: fields.word(name, ("red", "green"))),
    "words": (["red"], lambda fields, name: fields.words(name, ("red", "green"), 3)),
}
"""An example of each type there is, and how it is asked for."""


def _decode_fields(values: Mapping[str, Any]) -> list[Any]:
    return [read(Fields(values), name) for name, (_, read) in _FIELDS.items() if name in Fields(values)]


def _decode_address(data: bytes) -> PeerAddress:
    return PeerAddress.parse(data.decode("utf-8", "replace"))


def _said_again(message: hello.Message) -> bytes | None:
    # Addresses are never passed on as they came.
    return None if isinstance(message, hello.Addresses) else msgpack.packb(hello.to_wire(message))


_FRAME_MAPS: list[dict[str, Any]] = [
    {},
    {"kind": "a", "data": bytes(100)},
    {"n": [1, -1, 0.5, None, {"x": "ü"}]},
]
_YAMUX = [
    yamux_frames.encode(yamux_frames.DATA, yamux_frames.SYN, 1, data=b"hello"),
    yamux_frames.encode(yamux_frames.DATA, yamux_frames.FIN, 2**32 - 1),
    yamux_frames.encode(yamux_frames.WINDOW_UPDATE, yamux_frames.ACK, 2, 2**32 - 1),
    yamux_frames.encode(yamux_frames.PING, yamux_frames.SYN, 0, 7),
    yamux_frames.encode(yamux_frames.GO_AWAY, 0, 0, 2),
    yamux_frames.encode(yamux_frames.DATA, 0, 3, data=bytes(3000)),
]
_MULTISTREAM = streams.multistream_line("/multistream/1.0.0")

DECODERS = [
    Decoder(
        "p2p/framing",
        [b"".join(encode_frame(m, 1000) for m in _FRAME_MAPS[:n]) for n in (1, 2, 3)],
        streams.decode_frames,
        BadFrame,
        streams.encode_frames,
        are_msgpack=False,
    ),
    Decoder(
        "p2p/fields",
        seeds.packed([{name: example} for name, (example, _) in _FIELDS.items()]),
        framed(_decode_fields, 64 * 1024),
        BadFrame,
    ),
    Decoder(
        "p2p/hello",
        seeds.packed(map(hello.to_wire, seeds.HELLOS)),
        framed(hello.from_wire_untrusted, hello.FRAME_SIZE_MAX),
        BadFrame,
        _said_again,
    ),
    Decoder(
        "p2p/peer",
        [str(each).encode() for each in (seeds.LAN, seeds.IPV6, seeds.NAMED)],
        _decode_address,
        P2PError,
        lambda address: str(address).encode(),
        are_msgpack=False,
    ),
    Decoder(
        "p2p/mdns",
        [_announcement([seeds.LAN]), _announcement([seeds.IPV6, seeds.LAN])],
        _decode_announcement,
        _NothingMadeSense,
        _announcement,
        are_msgpack=False,
    ),
    Decoder(
        "p2p/token (text)",
        [token.encode().encode() for token in seeds.TOKENS],
        lambda data: Token.decode(data.decode("utf-8", "replace")).facts,
        BadToken,
        are_msgpack=False,
    ),
    Decoder(
        "p2p/token (body)",
        [_token_body(token) for token in seeds.TOKENS],
        lambda body: Token.decode(_token_text(body)).facts,
        BadToken,
    ),
    Decoder(
        "p2p/credential",
        seeds.packed(credential.to_wire() for credential in seeds.CREDENTIALS),
        _decode_credential,
        NotAdmitted,
        lambda credential: msgpack.packb(credential.to_wire()),
    ),
    Decoder(
        "p2p/membership",
        [membership.encode() for membership in seeds.MEMBERSHIPS],
        SwarmMembership.decode,
        BadMembership,
        lambda membership: membership.encode(),
    ),
    Decoder(
        "p2p/yamux_frames",
        [*_YAMUX, b"".join(_YAMUX[:5])],
        streams.decode_yamux,
        BadFrame,
        streams.encode_yamux,
        are_msgpack=False,
    ),
    Decoder(
        "p2p/multistream answer",
        [
            _MULTISTREAM + streams.multistream_line(hello.PROTOCOL_ID),
            _MULTISTREAM + streams.multistream_line("/later/2") + streams.multistream_line(hello.PROTOCOL_ID),
        ],
        streams.answer_multistream,
        BadFrame,
        are_msgpack=False,
    ),
    Decoder(
        "p2p/multistream propose",
        [
            _MULTISTREAM + streams.multistream_line(hello.PROTOCOL_ID),
            _MULTISTREAM + streams.multistream_line("na"),
        ],
        streams.propose_multistream,
        BadFrame,
        are_msgpack=False,
    ),
    Decoder(
        "p2p/blobs/manifest",
        [manifest.encode() for manifest in seeds.MANIFESTS],
        decode_manifest_untrusted,
        BadManifest,
        lambda manifest: manifest.encode(),
    ),
    Decoder(
        "p2p/blobs/blob_messages fetcher",
        seeds.packed(map(blob_messages.encode, seeds.FROM_FETCHER)),
        framed(blob_messages.decode_from_fetcher_untrusted, BLOB_FRAME_SIZE_MAX),
        BadFrame,
        lambda message: msgpack.packb(blob_messages.encode(message)),
    ),
    Decoder(
        "p2p/blobs/blob_messages seeder",
        seeds.packed(map(blob_messages.encode, seeds.FROM_SEEDER)),
        framed(blob_messages.decode_from_seeder_untrusted, BLOB_FRAME_SIZE_MAX),
        BadFrame,
        lambda message: msgpack.packb(blob_messages.encode(message)),
    ),
    Decoder(
        "ledger/entry",
        [entry.encoded for entry in seeds.ENTRIES],
        _decode_entry,
        BadEntry,
        lambda entry: entry.encoded,
        are_msgpack=False,
    ),
    *map(_record_row, seeds.RECORDS),
    Decoder(
        "ledger/sync_messages",
        seeds.packed(map(sync_messages.encode_message, seeds.LEDGER_MESSAGES)),
        framed(sync_messages.decode_message_untrusted, sync_messages.FRAME_SIZE_MAX),
        BadFrame,
        lambda message: msgpack.packb(sync_messages.encode_message(message)),
    ),
    Decoder(
        "ledger/probe",
        seeds.PROBES,
        framed(probe.from_frame_untrusted, probe.FRAME_SIZE_MAX),
        BadFrame,
        lambda read: msgpack.packb(probe.to_frame(*(read[0], read[1] or {}))),
    ),
    Decoder(
        "federation/infer_codec front",
        seeds.packed(infer_codec.encode(message) for message in seeds.FROM_FRONT),
        framed(infer_codec.decode_from_front_untrusted, INFER_FRAME_SIZE_MAX),
        BadFrame,
        lambda message: msgpack.packb(infer_codec.encode(message)),
    ),
    Decoder(
        "federation/infer_codec worker",
        seeds.packed(infer_codec.encode(message) for message in seeds.FROM_WORKER),
        framed(infer_codec.decode_from_worker_untrusted, INFER_FRAME_SIZE_MAX),
        BadFrame,
        lambda message: msgpack.packb(infer_codec.encode(message)),
    ),
    Decoder(
        "federation/load_feed front",
        seeds.packed(map(load_feed.encode, seeds.WAITING)),
        framed(load_feed.decode_from_front_untrusted, load_feed.FRAME_SIZE_MAX),
        BadFrame,
        lambda message: msgpack.packb(load_feed.encode(message)),
    ),
    Decoder(
        "federation/load_feed peer",
        seeds.packed(map(load_feed.encode, seeds.LOAD_NEWS)),
        framed(load_feed.decode_from_peer_untrusted, load_feed.FRAME_SIZE_MAX),
        BadFrame,
        lambda message: msgpack.packb(load_feed.encode(message)),
    ),
    Decoder(
        "federation/request_codec",
        seeds.packed(map(encode_request, seeds.REQUESTS)),
        framed(lambda values: decode_request_untrusted(Fields(values)), INFER_FRAME_SIZE_MAX),
        BadFrame,
        lambda request: msgpack.packb(encode_request(request)),
    ),
    Decoder(
        "node/engine/wire_codec to child",
        seeds.packed(map(wire_codec.to_map, seeds.TO_CHILD)),
        framed(wire_codec.to_child, wire.FRAME_SIZE_MAX),
        BadFrame,
    ),
    Decoder(
        "node/engine/wire_codec from child",
        seeds.packed(map(wire_codec.to_map, seeds.FROM_CHILD)),
        framed(wire_codec.from_child, wire.FRAME_SIZE_MAX),
        BadFrame,
    ),
]
