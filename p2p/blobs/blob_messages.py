"""`/localai-node/blob/1`: manifests and chunks, on one stream for all that one peer fetches from another.

    fetcher                               seeder
      | -- WANT_MANIFEST -----------------> |
      | <------------------- MANIFEST *---- |   in pieces, in order
      or:                    NO_MANIFEST    |   it is not here
      | -- FOLLOW ------------------------> |   what have you of this file?
      | <------------------- HAVE --------- |   this; said again whenever more has changed than came
      | <------------------- GAINED *------ |   these too, as they come; with hashes if those were asked for
      or, now or later:      NO_FILE        |   nothing, and nothing will come: not followed any more
      | -- REQUEST * ---------------------> |   a chunk; several may be under way
      | <------------------- DATA *-------- |   in pieces, in order
      or, before or amid:    REFUSED        |   ask somebody else
      | -- CANCEL ------------------------> |   of a REQUEST: what is unsent is not sent
      | -- UNFOLLOW ----------------------> |

Messages of several requests may mix, those of one do not change their order. A request that came is
answered with all DATA of the chunk, with REFUSED, or not at all: because it was cancelled, or because the
stream ended. A request that waits for its turn is told nothing. What crosses a CANCEL is not an error.

Hashes asked for come in GAINED alone, those of chunks that were there before right behind the first HAVE: a
map of 2 TiB fits one frame, its hashes do not. Who knows them from a manifest need not ask.

The end or reset of the fetcher's side is the end of all it asked for. One that asks for what cannot be there,
a chunk beyond the file or a thing under way twice, breaks the protocol.

Every map has `kind`; the numbers are append-only. Decoding takes anything and raises `BadFrame` only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from p2p.blobs.manifest import (
    CHUNK_SIZE,
    CHUNKS_MAX,
    ENCODED_SIZE_MAX,
    HASH_SIZE,
    FileKey,
    ManifestId,
    parse_file_key,
    parse_manifest_id,
)
from p2p.errors import BadFrame
from p2p.fields import Fields

PROTOCOL_ID = "/localai-node/blob/1"

PIECE_SIZE_MAX = 256 * 1024
"""Bytes of a chunk in one DATA: no more than waits for the connection anyway before a token of an answer that
goes over the same one, and not many of what takes a message's time whatever is in it."""

FRAME_SIZE_MAX = PIECE_SIZE_MAX + 1024
"""A piece, or the map of 2 TiB, and what is said of it."""

GAINED_MAX = 1024
"""Chunks in one GAINED: with their hashes some 40 KiB."""

REQUESTS_MAX = 32
"""Of one stream that are not answered. 128 MiB: a second at 100 MB/s, and no round trip takes that long."""

FOLLOWS_MAX = 64
"""Files followed on one stream. A node fetches a few at a time; a have-map of each is kept to tell what is
new."""

MANIFESTS_MAX = 4
"""Wanted on one stream and not sent yet."""

_ID_MAX = 2**32 - 1
_REFERENCE_LENGTH_MAX = 80
"""Characters of a file's key or a manifest's id."""

T = TypeVar("T")

RefusalReason: TypeAlias = Literal["busy", "gone", "no_chunk"]
"""busy: more under way than is kept, ask for less. gone: the file cannot be read as it was hashed.
no_chunk: this chunk is not here (yet)."""
_REASONS: tuple[RefusalReason, ...] = get_args(RefusalReason)


@dataclass(frozen=True, slots=True)
class WantManifest:
    """From the fetcher: send that manifest."""

    manifest: ManifestId


@dataclass(frozen=True, slots=True)
class Follow:
    """From the fetcher: tell me what you have of `file`, and what comes. Again: begin anew."""

    file: FileKey
    with_hashes: bool = False


@dataclass(frozen=True, slots=True)
class Unfollow:
    """From the fetcher: tell me no more of `file`."""

    file: FileKey


@dataclass(frozen=True, slots=True)
class Request:
    """From the fetcher: send that chunk. It need not follow the file."""

    id: int
    """The fetcher's choice, another one than that of any request under way; DATA and REFUSED carry it."""
    file: FileKey
    chunk: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """From the fetcher: what is unsent of that request is not wanted any more."""

    id: int


@dataclass(frozen=True, slots=True)
class ManifestPiece:
    """From the seeder: `data` of a manifest of `size_bytes` in all, from `offset` on."""

    manifest: ManifestId
    offset: int
    size_bytes: int
    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class NoManifest:
    """From the seeder: it is not here."""

    manifest: ManifestId


@dataclass(frozen=True, slots=True)
class Have:
    """From the seeder: this is what there is of `file`. It replaces what was said before, hashes excepted."""

    file: FileKey
    size_bytes: int
    bits: bytes
    """A have-map; whoever reads it knows by the file's size how long it must be (`have_map.py`)."""
    sha256: str
    """In hexadecimal; empty while the seeder does not know it."""
    is_growing: bool


@dataclass(frozen=True, slots=True)
class Gained:
    """From the seeder: these chunks are there too."""

    file: FileKey
    chunks: tuple[int, ...]
    hashes: bytes = b""
    """32 bytes of each chunk if they were asked for, else nothing."""


@dataclass(frozen=True, slots=True)
class NoFile:
    """From the seeder: there is nothing of `file`, or no more."""

    file: FileKey


@dataclass(frozen=True, slots=True)
class Data:
    """From the seeder: `data` of the chunk that was requested, from `offset` in the chunk on."""

    id: int
    offset: int
    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Refused:
    """From the seeder: no (more) data for that request."""

    id: int
    reason: RefusalReason


FetcherMessage: TypeAlias = WantManifest | Follow | Unfollow | Request | Cancel
SeederMessage: TypeAlias = ManifestPiece | NoManifest | Have | Gained | NoFile | Data | Refused


class _Kind(IntEnum):
    WANT_MANIFEST = 1
    FOLLOW = 2
    UNFOLLOW = 3
    REQUEST = 4
    CANCEL = 5
    MANIFEST = 6
    NO_MANIFEST = 7
    HAVE = 8
    GAINED = 9
    NO_FILE = 10
    DATA = 11
    REFUSED = 12


def encode(message: FetcherMessage | SeederMessage) -> dict[str, Any]:
    """`message` as a map for one frame."""
    match message:
        case WantManifest() | Follow() | Unfollow() | Request() | Cancel():
            return _encode_fetchers(message)
        case _:
            return _encode_seeders(message)


def _encode_fetchers(message: FetcherMessage) -> dict[str, Any]:
    match message:
        case Request(number, file, chunk):
            return {"kind": _Kind.REQUEST.value, "id": number, "file": file, "chunk": chunk}
        case Cancel(number):
            return {"kind": _Kind.CANCEL.value, "id": number}
        case Follow(file, with_hashes):
            return {"kind": _Kind.FOLLOW.value, "file": file, "with_hashes": with_hashes}
        case Unfollow(file):
            return {"kind": _Kind.UNFOLLOW.value, "file": file}
        case WantManifest(manifest):
            return {"kind": _Kind.WANT_MANIFEST.value, "manifest": manifest}


def _encode_seeders(message: SeederMessage) -> dict[str, Any]:
    match message:
        case Data(number, offset, data):
            return {"kind": _Kind.DATA.value, "id": number, "offset": offset, "data": data}
        case Refused(number, reason):
            return {"kind": _Kind.REFUSED.value, "id": number, "reason": reason}
        case Gained(file, chunks, hashes):
            return {"kind": _Kind.GAINED.value, "file": file, "chunks": list(chunks), "hashes": hashes}
        case Have(file, size_bytes, bits, sha256, is_growing):
            said = {"file": file, "size": size_bytes, "bits": bits, "sha256": sha256}
            return {"kind": _Kind.HAVE.value, **said, "is_growing": is_growing}
        case NoFile(file):
            return {"kind": _Kind.NO_FILE.value, "file": file}
        case NoManifest(manifest):
            return {"kind": _Kind.NO_MANIFEST.value, "manifest": manifest}
        case ManifestPiece(manifest, offset, size_bytes, data):
            said = {"manifest": manifest, "offset": offset, "size": size_bytes}
            return {"kind": _Kind.MANIFEST.value, **said, "data": data}


def decode_from_fetcher_untrusted(values: Mapping[str, Any]) -> FetcherMessage:
    """What a fetcher sent.

    Raises:
      BadFrame: it is none of the messages a fetcher may send.
    """
    return _decode(values, _FROM_FETCHER)


def decode_from_seeder_untrusted(values: Mapping[str, Any]) -> SeederMessage:
    """What a seeder sent. Whether it was asked for, and a map fits its file, is for the caller to see.

    Raises:
      BadFrame: it is none of the messages a seeder may send.
    """
    return _decode(values, _FROM_SEEDER)


def _decode(values: Mapping[str, Any], decoders: Mapping[int, Callable[[Fields], T]]) -> T:
    fields = Fields(values)
    kind = fields.whole("kind", 0, 2**31 - 1)
    if (decode := decoders.get(kind)) is None:
        raise BadFrame(f"a blob message of kind {kind}")
    return decode(fields)


def _request(fields: Fields) -> Request:
    return Request(_id(fields), _file(fields), fields.whole("chunk", 0, CHUNKS_MAX - 1))


def _data(fields: Fields) -> Data:
    offset, data = fields.whole("offset", 0, CHUNK_SIZE - 1), fields.data_up_to("data", PIECE_SIZE_MAX)
    if not data or offset + len(data) > CHUNK_SIZE:
        raise BadFrame(f"{len(data)} bytes of a chunk from {offset} on")
    return Data(_id(fields), offset, data)


def _manifest_piece(fields: Fields) -> ManifestPiece:
    size_bytes = fields.whole("size", 1, ENCODED_SIZE_MAX)
    offset, data = fields.whole("offset", 0, size_bytes - 1), fields.data_up_to("data", PIECE_SIZE_MAX)
    if not data or offset + len(data) > size_bytes:
        raise BadFrame(f"{len(data)} bytes of a manifest of {size_bytes} from {offset} on")
    return ManifestPiece(_manifest(fields), offset, size_bytes, data)


def _have(fields: Fields) -> Have:
    sha256 = fields.text("sha256", 2 * HASH_SIZE)
    return Have(
        file=_file(fields),
        size_bytes=fields.whole("size", 1, CHUNKS_MAX * CHUNK_SIZE),
        bits=fields.data_up_to("bits", CHUNKS_MAX // 8),
        sha256=_parsed(parse_manifest_id, sha256) if sha256 else "",
        is_growing=fields.flag("is_growing"),
    )


def _gained(fields: Fields) -> Gained:
    chunks = fields.wholes("chunks", GAINED_MAX, CHUNKS_MAX - 1)
    hashes = fields.data_up_to("hashes", GAINED_MAX * HASH_SIZE)
    if hashes and len(hashes) != HASH_SIZE * len(chunks):
        raise BadFrame(f"{len(hashes)} bytes of hashes for {len(chunks)} chunks")
    return Gained(_file(fields), chunks, hashes)


def _id(fields: Fields) -> int:
    return fields.whole("id", 0, _ID_MAX)


def _file(fields: Fields) -> FileKey:
    return _parsed(parse_file_key, fields.text("file", _REFERENCE_LENGTH_MAX))


def _manifest(fields: Fields) -> ManifestId:
    return _parsed(parse_manifest_id, fields.text("manifest", _REFERENCE_LENGTH_MAX))


def _parsed(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise BadFrame(str(error)) from error


_FROM_FETCHER: dict[int, Callable[[Fields], FetcherMessage]] = {
    _Kind.WANT_MANIFEST: lambda fields: WantManifest(_manifest(fields)),
    _Kind.FOLLOW: lambda fields: Follow(_file(fields), fields.flag("with_hashes")),
    _Kind.UNFOLLOW: lambda fields: Unfollow(_file(fields)),
    _Kind.REQUEST: _request,
    _Kind.CANCEL: lambda fields: Cancel(_id(fields)),
}
_FROM_SEEDER: dict[int, Callable[[Fields], SeederMessage]] = {
    _Kind.MANIFEST: _manifest_piece,
    _Kind.NO_MANIFEST: lambda fields: NoManifest(_manifest(fields)),
    _Kind.HAVE: _have,
    _Kind.GAINED: _gained,
    _Kind.NO_FILE: lambda fields: NoFile(_file(fields)),
    _Kind.DATA: _data,
    _Kind.REFUSED: lambda fields: Refused(_id(fields), fields.word("reason", _REASONS)),
}
