"""An entry is what its writer signed, byte for byte, or nothing."""

from __future__ import annotations

import pytest

from ledger.entry import SWARM, Entry, Scope, decode_entry_untrusted, sign_entry, sign_shared_entry
from ledger.errors import BadEntry, UnknownFormat
from ledger.version import Version, shared_version
from tests.ledger.people import author

ALICE = author(1, "admin")
WRITTEN = sign_entry(ALICE, "model/a", Version(3, 17), b"\x81\xa1x\x01")
DELETED = sign_entry(ALICE, "model/a", Version(3, 18), None)
SHARED = sign_shared_entry(ALICE, "alias/a", 5, b"\x80")
ENTRIES = [WRITTEN, DELETED, SHARED]

# From `_DOMAIN` and the layout in `ledger/entry.py`: other implementations must produce the same.
WRITER_HEX = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"
CREDENTIAL_HEX = (
    "82a56c696e6b739194c42041e8fde132ad670e534cd8b275d2cd7eec77733c66f8db48a1cada7fabfc45550300c440"
    "2829a9174042669dbc342bf334e462e04348e1ab46fd2a2151ef912231015aae91e1ad35be3d245a91ca7db86281028d"
    "fd991c612e5d5ea5368cec042af8dd03a97369676e6174757265c44001919b663cae6edaf04ea2845f5f07b07ccdc033"
    "fdcae832bc53d99be6fb357366a185d201c4b8474a9864edffd19357bba3538c566873b61621f72017084800"
)
WRITTEN_HEX = (
    "0200"
    f"{WRITER_HEX}"
    "000000000000000300000000000000110000070000000400bb"
    "6d6f64656c2f6181a17801"
    f"{CREDENTIAL_HEX}"
    "f634654898b3919f49a9a4822a7f0f037795dfba87324e2b3ab47108033dfb35"
    "fffa49d3d7f7d2a055d3b275ae03fc5b1cb57c414ac1a5145814db6cda761f0b"
)
DELETED_HEX = (
    "0200"
    f"{WRITER_HEX}"
    "000000000000000300000000000000120100070000000000bb"
    "6d6f64656c2f61"
    f"{CREDENTIAL_HEX}"
    "1d4dc9b6d16fa4473999603f1fad682cc828f9b5ee85d18db03ffd2b2b434e7f"
    "68100643eb1e9b667e498e480f2e622bc4b8bf1bf60807a6bfef65a912dc350b"
)
SHARED_HEX = (
    "0201"
    f"{WRITER_HEX}"
    "00000000000000058a88e3dd7409f1950000070000000100bb"
    "616c6961732f6180"
    f"{CREDENTIAL_HEX}"
    "889b3da8aacad70773b84ca5d5787764b783ad2f2f97ace6dfab7c4d419bf01c"
    "7a1d5e05e820307a9a617b19e540077047e4a5b2dd111bbe220788f4bfdfe805"
)


@pytest.mark.parametrize(
    ("entry", "expected"), [(WRITTEN, WRITTEN_HEX), (DELETED, DELETED_HEX), (SHARED, SHARED_HEX)]
)
def test_the_bytes_of_an_entry_are_fixed(entry: Entry, expected: str) -> None:
    assert entry.encoded.hex() == expected


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_is_read_back_as_it_was_written(entry: Entry) -> None:
    read = decode_entry_untrusted(entry.encoded)
    assert read == entry
    assert read.is_signed_by_writer()
    assert read.credential() == ALICE.credential


def test_an_entry_of_the_swarm_belongs_to_nobody_and_names_its_writer() -> None:
    assert (SHARED.owner, SHARED.writer, SHARED.scope) == (SWARM, ALICE.peer, Scope.SWARM)
    assert SHARED.version == shared_version(5, ALICE.identity.public_key)
    assert (WRITTEN.owner, WRITTEN.writer, WRITTEN.scope) == (ALICE.peer, ALICE.peer, Scope.OWN)


def test_an_entry_of_the_swarm_cannot_borrow_another_writers_rank() -> None:
    altered = bytearray(SHARED.encoded)
    altered[42:50] = b"\xff" * 8
    with pytest.raises(BadEntry, match="names another writer"):
        decode_entry_untrusted(bytes(altered))


def test_no_bit_of_an_entry_can_be_changed() -> None:
    for position in range(len(WRITTEN.encoded) * 8):
        altered = bytearray(WRITTEN.encoded)
        altered[position // 8] ^= 1 << position % 8
        try:
            entry = decode_entry_untrusted(bytes(altered))
        except BadEntry:
            continue
        assert not entry.is_signed_by_writer(), f"bit {position}"


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_that_is_cut_or_goes_on_is_none(entry: Entry) -> None:
    for size in range(len(entry.encoded)):
        with pytest.raises(BadEntry):
            decode_entry_untrusted(entry.encoded[:size])
    with pytest.raises(BadEntry):
        decode_entry_untrusted(entry.encoded + b"\0")


def test_an_entry_of_a_later_format_is_told_from_garbage() -> None:
    with pytest.raises(UnknownFormat):
        decode_entry_untrusted(b"\3" + WRITTEN.encoded[1:])
