"""An entry is what its owner signed, byte for byte, or nothing."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest

from ledger.entry import Entry, decode_entry_untrusted, sign_entry
from ledger.errors import BadEntry, UnknownFormat
from ledger.version import Version
from p2p.identity import Identity

ALICE = Identity(bytes(range(32)))
WRITTEN = sign_entry(ALICE, "model/a", Version(3, 17), b"\x81\xa1x\x01")
DELETED = sign_entry(ALICE, "model/a", Version(3, 18), None)

# From `_DOMAIN` and the layout in `ledger/entry.py`: other implementations must produce the same.
WRITTEN_SIGNATURE_HEX = (
    "c555ad171cac201cae26df8982664350e9dccb222674cedf544a6a7ad28e9ad8"
    "97ca8924356f301cd79737fdba1bed2de49eb1447d2bf5d2b1d529d26dd76c09"
)
WRITTEN_HEX = (
    "01"
    "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
    "0000000000000003"
    "0000000000000011"
    "00"
    "0007"
    "00000004"
    "6d6f64656c2f61"
    "81a17801"
)
DELETED_SIGNATURE_HEX = (
    "5be4ff6f9842e3a26fd47829cf69a9b8859680cccdae8f7992437e1441258af3"
    "59eabaa1b524fec538621e3a97d440255c3e0fb23ce1e599ad6f43a2a3c14a0d"
)
DELETED_HEX = (
    "01"
    "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
    "0000000000000003"
    "0000000000000012"
    "01"
    "0007"
    "00000000"
    "6d6f64656c2f61"
)


@pytest.mark.parametrize(
    ("entry", "signed", "signature"),
    [
        (WRITTEN, WRITTEN_HEX, WRITTEN_SIGNATURE_HEX),
        (DELETED, DELETED_HEX, DELETED_SIGNATURE_HEX),
    ],
)
def test_the_bytes_of_an_entry_are_fixed(entry: Entry, signed: str, signature: str) -> None:
    assert entry.encoded.hex() == signed + signature


@pytest.mark.parametrize("entry", [WRITTEN, DELETED])
def test_an_entry_is_read_back_as_it_was_written(entry: Entry) -> None:
    read = decode_entry_untrusted(entry.encoded)
    assert read == entry
    assert read.is_signed_by_owner()


def test_no_bit_of_an_entry_can_be_changed() -> None:
    for position in range(len(WRITTEN.encoded) * 8):
        altered = bytearray(WRITTEN.encoded)
        altered[position // 8] ^= 1 << position % 8
        try:
            entry = decode_entry_untrusted(bytes(altered))
        except BadEntry:
            continue
        assert not entry.is_signed_by_owner(), f"bit {position}"


@pytest.mark.parametrize("entry", [WRITTEN, DELETED])
def test_an_entry_that_is_cut_or_goes_on_is_none(entry: Entry) -> None:
    for size in range(len(entry.encoded)):
        with pytest.raises(BadEntry):
            decode_entry_untrusted(entry.encoded[:size])
    with pytest.raises(BadEntry):
        decode_entry_untrusted(entry.encoded + b"\0")


def test_an_entry_of_a_later_format_is_told_from_garbage() -> None:
    with pytest.raises(UnknownFormat):
        decode_entry_untrusted(b"\2" + WRITTEN.encoded[1:])


def test_near_misses_of_an_entry_raise_one_exception_only() -> None:
    rng = Random(5)
    for _ in range(20_000):
        mutated = bytearray(WRITTEN.encoded)
        for _ in range(rng.randint(1, 4)):
            # Most of the interesting fields are at the start, before the key.
            mutated[rng.randrange(min(64, len(mutated)))] = rng.choice((0, 1, 2, 127, 128, 255))
            if rng.random() < 0.2:
                del mutated[rng.randrange(len(mutated))]
        with suppress(BadEntry):
            decode_entry_untrusted(bytes(mutated))
