"""A key is saved whole, for its owner only, and anything else is refused with one line."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from p2p.errors import BadIdentity
from p2p.identity import Identity, verify
from p2p.peer import public_key_of
from p2p.private_file import PRIVATE_FILE_SIZE_MAX, write_private_file
from tests.p2p.people import ALICE, BOB

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="there are no mode bits on Windows")


def test_a_saved_key_is_the_same_key(tmp_path: Path) -> None:
    ALICE.save(tmp_path / "node.key")
    loaded = Identity.load(tmp_path / "node.key")
    assert (loaded.seed, loaded.peer_id) == (ALICE.seed, ALICE.peer_id)


def test_a_peer_id_contains_the_public_key() -> None:
    assert public_key_of(ALICE.peer_id) == ALICE.public_key


def test_rfc_8032_test_1_gives_its_public_key_and_signature() -> None:
    identity = Identity(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert identity.public_key.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert identity.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b"
    )


def test_a_signature_holds_for_its_message_and_key_only() -> None:
    signature = ALICE.sign(b"message")
    assert verify(ALICE.public_key, signature, b"message")
    assert not verify(ALICE.public_key, signature, b"massage")
    assert not verify(BOB.public_key, signature, b"message")
    assert not verify(ALICE.public_key, signature[:-1], b"message")
    assert not verify(b"short", signature, b"message")


def test_two_generated_keys_differ() -> None:
    assert Identity.generate().peer_id != Identity.generate().peer_id


def test_a_key_does_not_print_its_seed() -> None:
    assert ALICE.seed.hex() not in repr(ALICE)
    assert repr(ALICE.seed) not in repr(ALICE)


@posix_only
def test_only_the_owner_can_read_a_saved_key(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        ALICE.save(tmp_path / "node.key")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "node.key").stat().st_mode) == 0o600


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    ALICE.save(tmp_path / "node.key")
    with pytest.raises(BadIdentity, match="not overwritten"):
        BOB.save(tmp_path / "node.key")
    assert Identity.load(tmp_path / "node.key").peer_id == ALICE.peer_id


def test_a_missing_key_file_is_told_apart_from_a_bad_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Identity.load(tmp_path / "node.key")


def test_what_is_no_ed25519_key_is_refused_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    ALICE.save(path)
    whole = path.read_bytes()
    other_kind = generate_private_key(SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with_password = serialization.load_pem_private_key(whole, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    for content in (b"", b"hello", whole[:60], other_kind, with_password, bytes(PRIVATE_FILE_SIZE_MAX + 5)):
        path.write_bytes(content)
        with pytest.raises(BadIdentity) as refusal:
            Identity.load(path)
        assert str(path) in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_an_unreadable_key_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(BadIdentity, match="cannot read the key file"):
        Identity.load(tmp_path)


def test_a_key_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(BadIdentity, match="cannot write the key file"):
        ALICE.save(tmp_path / "no such folder" / "node.key")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "swarm.msgpack"
    write_private_file(path, b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_private_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
