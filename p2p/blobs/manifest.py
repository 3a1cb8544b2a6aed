"""Manifest: the files of one model, by their hashes.

    ManifestId = BLAKE3 of { manifest: 1, files: [[name, size, sha256, BLAKE3 of each chunk], ...] }

A file is known by its sha256, as on Hugging Face and in Ollama, and cut in chunks of 4 MiB,
each of which can be checked alone. Equal files make equal manifests: names are canonical
(`model.gguf`, `model-00001-of-00003.gguf`, `mmproj.gguf`, `model.yaml`), files are in the order
of their names, and there is one encoding. What another version would add is another manifest.

Files are fetched one by one, and their chunks are numbered in each from 0: two manifests that
share a file share its chunks. Whether the chunks' hashes belong to that sha256 is only known
when the whole file is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NewType

import msgpack
from blake3 import blake3

from p2p.blobs.errors import BadFileName, BadManifest
from p2p.blobs.file_name import check_file_name, folded
from p2p.errors import BadFrame
from p2p.fields import Fields

ManifestId = NewType("ManifestId", str)
"""64 hexadecimal digits."""
FileKey = NewType("FileKey", str)
"""What peers call a file by: its sha256 in hexadecimal (`file_key`) or, as long as nobody knows that,
where it is downloaded from (`source_key`)."""

CHUNK_SIZE = 4 * 1024 * 1024
"""Bytes. A chunk of this size takes 40 ms at the speed of a stream here, which is what one bad or late one
costs; smaller ones would make more hashes, requests and messages for nothing."""
HASH_SIZE = 32
"""Bytes of BLAKE3, and of sha256."""
CHUNKS_MAX = 512 * 1024
"""Of one file, so 2 TiB: its hashes take 16 MiB, its have-map one frame. The largest model that people run
at home, a trillion parameters in 16 bits, is as large in all its files together."""
FILES_MAX = 1024
"""The largest models are split in below 200."""
ENCODED_SIZE_MAX = 16 * 1024 * 1024 + 512 * 1024
"""Bytes: the hashes of 2 TiB, and a name and a sha256 for each file. What is longer is not looked at."""

_VERSION = 1
_NAME_LENGTH_MAX = 255
"""Characters that are worth looking at: `file_name.py` allows fewer bytes."""
_ID = re.compile(r"[0-9a-f]{64}")
_FILE_KEY = re.compile(r"(source:)?[0-9a-f]{64}")


def chunk_count(size_bytes: int) -> int:
    """Chunks of a file of that size."""
    return -(-size_bytes // CHUNK_SIZE)


def chunk_size(size_bytes: int, chunk: int) -> int:
    """Bytes of one chunk of a file of that size: the last may be shorter."""
    return min(CHUNK_SIZE, size_bytes - chunk * CHUNK_SIZE)


def hash_chunk(*pieces: bytes | bytearray | memoryview) -> bytes:
    """The BLAKE3 of a chunk, in one piece or several. It takes milliseconds: call it in a thread."""
    digest = blake3()
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def file_key(sha256: str) -> FileKey:
    """What a file is called by whose sha256 (in hexadecimal) is known."""
    return FileKey(sha256)


def source_key(reference_sha256: str) -> FileKey:
    """What a file is called by while nobody knows its sha256: by the sha256 of the reference to its source,
    never by the reference, which may hold a password."""
    return FileKey(f"source:{reference_sha256}")


def parse_file_key(text: str) -> FileKey:
    """`text` as the key of a file.

    Raises:
      ValueError: it is none.
    """
    if not _FILE_KEY.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is no key of a file")
    return FileKey(text)


def parse_manifest_id(text: str) -> ManifestId:
    """`text` as the id of a manifest.

    Raises:
      ValueError: it is none.
    """
    if not _ID.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is no id of a manifest")
    return ManifestId(text)


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file.

    Raises:
      BadManifest: it cannot be one.
    """

    name: str
    size_bytes: int
    """At least 1: an empty file has no chunk to ask for."""
    sha256: str
    """In hexadecimal, small letters."""
    hashes: bytes
    """The BLAKE3 of each chunk, one after the other."""

    def __post_init__(self) -> None:
        try:
            check_file_name(self.name)
        except BadFileName as error:
            raise BadManifest(str(error)) from error
        if not _ID.fullmatch(self.sha256):
            raise BadManifest(f"{self.name}: its sha256 is not 64 hexadecimal digits")
        if not 1 <= self.size_bytes <= CHUNKS_MAX * CHUNK_SIZE:
            raise BadManifest(f"{self.name}: {self.size_bytes} bytes")
        # So a size cannot be made up: each 4 MiB of it takes 32 bytes to say.
        if len(self.hashes) != HASH_SIZE * self.chunk_count:
            raise BadManifest(
                f"{self.name}: {len(self.hashes)} bytes of hashes for {self.chunk_count} chunks"
            )

    @property
    def key(self) -> FileKey:
        """What peers call it by."""
        return file_key(self.sha256)

    @property
    def chunk_count(self) -> int:
        """How many chunks it is cut in."""
        return chunk_count(self.size_bytes)

    def chunk_size(self, chunk: int) -> int:
        """Bytes of one chunk."""
        return chunk_size(self.size_bytes, chunk)

    def chunk_hash(self, chunk: int) -> bytes:
        """The BLAKE3 of one chunk."""
        return self.hashes[chunk * HASH_SIZE : (chunk + 1) * HASH_SIZE]


@dataclass(frozen=True)
class Manifest:
    """The files of one model. Made by `manifest_of` or `decode_manifest_untrusted`.

    Raises:
      BadManifest: there are none, too many, two that are one on some system, or more than can be encoded.
    """

    files: tuple[ManifestFile, ...]
    """In the order of their names."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.files) <= FILES_MAX:
            raise BadManifest(f"{len(self.files)} files, from 1 to {FILES_MAX} are allowed")
        if len({folded(file.name) for file in self.files}) < len(self.files):
            raise BadManifest("two files whose names are one on some system")
        if list(self.files) != sorted(self.files, key=_name):
            raise BadManifest("files that are not in the order of their names")
        if len(self._encoded) > ENCODED_SIZE_MAX:
            raise BadManifest(f"{len(self._encoded)} bytes, {ENCODED_SIZE_MAX} are allowed")

    @cached_property
    def id(self) -> ManifestId:
        """What the swarm knows it by."""
        return ManifestId(blake3(self._encoded).hexdigest())

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def chunk_count(self) -> int:
        """Of all files."""
        return sum(file.chunk_count for file in self.files)

    def encode(self) -> bytes:
        """What is kept, sent, and hashed to its id."""
        return self._encoded

    @cached_property
    def _encoded(self) -> bytes:
        files = [[each.name, each.size_bytes, bytes.fromhex(each.sha256), each.hashes] for each in self.files]
        # msgpack would begin with 256 KiB, which is much for what a stranger makes us encode with few bytes.
        encoded: bytes = msgpack.packb({"manifest": _VERSION, "files": files}, buf_size=1024)
        return encoded


def manifest_of(files: Iterable[ManifestFile]) -> Manifest:
    """The manifest of `files`, in whatever order they come.

    Raises:
      BadManifest: as `Manifest`.
    """
    return Manifest(tuple(sorted(files, key=_name)))


def decode_manifest_untrusted(data: bytes) -> Manifest:
    """The manifest in `data`. Whether it is the one that was asked for is said by its `id`.

    Takes milliseconds for the largest: call it in a thread.

    Raises:
      BadManifest: it is none, it is said in another way than ours, or beyond what any model needs.
    """
    if len(data) > ENCODED_SIZE_MAX:
        raise BadManifest(f"{len(data)} bytes, {ENCODED_SIZE_MAX} are allowed")
    try:
        manifest = _decode(data)
    except (ValueError, BadFrame, msgpack.UnpackException) as error:
        raise BadManifest(f"not a manifest: {error}") from error
    if manifest.encode() != data:
        raise BadManifest("said in another way than ours, so its id would be another")
    return manifest


def _decode(data: bytes) -> Manifest:
    # One field after the other, none of which holds others: unpacked as one value, 16 MiB of empty maps are
    # a gigabyte before anybody could count them.
    reader = msgpack.Unpacker(max_buffer_size=len(data) or 1, max_array_len=0, max_map_len=0)
    reader.feed(data)
    if reader.read_map_header() != 2 or reader.unpack() != "manifest":
        raise BadManifest("no map of a manifest")
    if (version := reader.unpack()) != _VERSION:
        raise BadManifest(f"a manifest of version {version}, which only a later release reads")
    if reader.unpack() != "files" or (count := reader.read_array_header()) > FILES_MAX:
        raise BadManifest(f"no list of at most {FILES_MAX} files")
    return Manifest(tuple(_decode_file(reader) for _ in range(count)))


def _decode_file(reader: msgpack.Unpacker) -> ManifestFile:
    columns = ("name", "size", "sha256", "hashes")
    if reader.read_array_header() != len(columns):
        raise BadManifest(f"a file that is not {', '.join(columns)}")
    row = Fields({column: reader.unpack() for column in columns})
    return ManifestFile(
        row.text("name", _NAME_LENGTH_MAX),
        row.whole("size", 1, CHUNKS_MAX * CHUNK_SIZE),
        row.data("sha256", HASH_SIZE).hex(),
        row.data_up_to("hashes", CHUNKS_MAX * HASH_SIZE),
    )


def _name(file: ManifestFile) -> str:
    return file.name
