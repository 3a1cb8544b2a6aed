"""Blob messages: what was said is what is read, and what nobody may say is refused."""

from __future__ import annotations

from typing import Any

import pytest

from p2p.blobs.blob_messages import (
    FRAME_SIZE_MAX,
    GAINED_MAX,
    PIECE_SIZE_MAX,
    Data,
    FetcherMessage,
    Follow,
    Gained,
    Have,
    ManifestPiece,
    NoManifest,
    Refused,
    Request,
    SeederMessage,
    decode_from_fetcher_untrusted,
    decode_from_seeder_untrusted,
    encode,
)
from p2p.blobs.manifest import CHUNK_SIZE, CHUNKS_MAX, ENCODED_SIZE_MAX, ManifestId, file_key
from p2p.errors import BadFrame
from p2p.framing import FrameDecoder, encode_frame
from tests.fuzz import seeds

FILE = file_key("ab" * 32)
MANIFEST = ManifestId("ef" * 32)


def over_the_wire(message: FetcherMessage | SeederMessage, cut: int) -> dict[str, Any]:
    """The map that arrives when the frame comes in pieces of `cut` bytes."""
    data, decoder = encode_frame(encode(message), FRAME_SIZE_MAX), FrameDecoder(FRAME_SIZE_MAX)
    pieces = [data[start : start + cut] for start in range(0, len(data), cut)]
    (values,) = [values for piece in pieces for values in decoder.feed_untrusted(piece)]
    return values


@pytest.mark.parametrize("message", seeds.FROM_FETCHER, ids=repr)
@pytest.mark.parametrize("cut", [1, 10_000_000])
def test_what_a_fetcher_says_is_what_is_read(message: FetcherMessage, cut: int) -> None:
    assert decode_from_fetcher_untrusted(over_the_wire(message, cut)) == message


@pytest.mark.parametrize("message", seeds.FROM_SEEDER, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("cut", [7, 10_000_000])
def test_what_a_seeder_says_is_what_is_read(message: SeederMessage, cut: int) -> None:
    """The largest of each among them: they fit a frame."""
    assert decode_from_seeder_untrusted(over_the_wire(message, cut)) == message


def test_a_piece_is_said_without_being_copied_before() -> None:
    data = memoryview(bytes(range(100)))
    assert decode_from_seeder_untrusted(over_the_wire(Data(1, 7, data[10:20]), 99)) == Data(
        1, 7, bytes(data[10:20])
    )


@pytest.mark.parametrize("message", seeds.FROM_SEEDER, ids=lambda message: type(message).__name__)
def test_a_seeder_s_message_is_none_of_a_fetcher(message: SeederMessage) -> None:
    with pytest.raises(BadFrame):
        decode_from_fetcher_untrusted(encode(message))


@pytest.mark.parametrize("message", seeds.FROM_FETCHER, ids=repr)
def test_a_fetcher_s_message_is_none_of_a_seeder(message: FetcherMessage) -> None:
    with pytest.raises(BadFrame):
        decode_from_seeder_untrusted(encode(message))


def test_fields_of_a_later_version_are_ignored() -> None:
    assert decode_from_fetcher_untrusted({**encode(Request(1, FILE, 2)), "later": [1]}) == Request(1, FILE, 2)


@pytest.mark.parametrize(
    ("message", "wrong"),
    [
        (Request(1, FILE, 2), {"chunk": -1}),
        (Request(1, FILE, 2), {"chunk": CHUNKS_MAX}),
        (Request(1, FILE, 2), {"chunk": True}),
        (Request(1, FILE, 2), {"id": 2**32}),
        (Request(1, FILE, 2), {"file": "../" + FILE[3:]}),
        (Request(1, FILE, 2), {"file": FILE.upper()}),
        (Request(1, FILE, 2), {"file": None}),
        (Follow(FILE), {"with_hashes": 1}),
    ],
)
def test_near_misses_of_a_fetcher_are_refused(message: FetcherMessage, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadFrame):
        decode_from_fetcher_untrusted({**encode(message), **wrong})


@pytest.mark.parametrize(
    ("message", "wrong"),
    [
        (Data(1, 0, b"x"), {"data": b""}),
        (Data(1, 0, b"x"), {"data": bytes(PIECE_SIZE_MAX + 1)}),
        (Data(1, 0, b"x"), {"data": "x"}),
        (Data(1, 0, b"x"), {"offset": CHUNK_SIZE}),
        (Data(1, 0, b"xy"), {"offset": CHUNK_SIZE - 1}),
        (Have(FILE, 1, b"\x80", "", is_growing=False), {"size": 0}),
        (Have(FILE, 1, b"\x80", "", is_growing=False), {"size": 2**50}),
        (Have(FILE, 1, b"\x80", "", is_growing=False), {"bits": bytes(CHUNKS_MAX // 8 + 1)}),
        (Have(FILE, 1, b"\x80", "", is_growing=False), {"sha256": "ab"}),
        (Gained(FILE, (1, 2), bytes(64)), {"hashes": bytes(63)}),
        (Gained(FILE, (1, 2), bytes(64)), {"chunks": [1, CHUNKS_MAX]}),
        (Gained(FILE, (1, 2)), {"chunks": list(range(GAINED_MAX + 1))}),
        (ManifestPiece(MANIFEST, 0, 1, b"x"), {"size": 0}),
        (ManifestPiece(MANIFEST, 0, 1, b"x"), {"size": ENCODED_SIZE_MAX + 1}),
        (ManifestPiece(MANIFEST, 0, 1, b"x"), {"offset": 1}),
        (ManifestPiece(MANIFEST, 0, 1, b"x"), {"data": b"xy"}),
        (ManifestPiece(MANIFEST, 0, 1, b"x"), {"data": b""}),
        (NoManifest(MANIFEST), {"manifest": "source:" + MANIFEST}),
        (Refused(1, "busy"), {"reason": "tired"}),
        (Refused(1, "busy"), {"kind": 13}),
        (Refused(1, "busy"), {"kind": "REFUSED"}),
    ],
)
def test_near_misses_of_a_seeder_are_refused(message: SeederMessage, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadFrame):
        decode_from_seeder_untrusted({**encode(message), **wrong})
