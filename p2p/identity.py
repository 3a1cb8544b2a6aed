"""An Ed25519 key: who a node is, and what signs in its name.

The node's key, the founder's key and an invite's key are of the same kind and
never the same key: a node's key proves on every connection who is there, the
founder's key is needed only to invite.

A key file is PEM (PKCS 8), as `openssl genpkey -algorithm ed25519` writes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from p2p.errors import BadIdentity
from p2p.peer import PeerId, peer_id_of
from p2p.private_file import read_private_file, write_private_file

SEED_SIZE = 32
"""Of an Ed25519 private key (RFC 8032, 5.1.5)."""
PUBLIC_KEY_SIZE = 32
SIGNATURE_SIZE = 64


class Identity:
    """One Ed25519 key pair. Prints as its peer id; its seed is shown to nobody."""

    __slots__ = ("_key", "peer_id", "public_key")

    peer_id: Final[PeerId]
    public_key: Final[bytes]

    def __init__(self, seed: bytes) -> None:
        assert len(seed) == SEED_SIZE
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()
        self.peer_id = peer_id_of(self.public_key)

    def __repr__(self) -> str:
        return f"Identity({self.peer_id})"

    @property
    def seed(self) -> bytes:
        """The private key itself (32 bytes): for the transport's handshake and for key files."""
        return self._key.private_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """The signature (64 bytes) of `message`, which begins with what it is for, so that no
        signature made for one purpose can be shown for another."""
        return self._key.sign(message)

    @classmethod
    def generate(cls) -> Identity:
        """A new key from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def load(cls, path: Path) -> Identity:
        """The key in the file at `path`.

        Raises:
          FileNotFoundError: there is none; a caller may want to generate one.
          BadIdentity: it cannot be read, or it is no Ed25519 key.
        """
        try:
            data = read_private_file(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise BadIdentity(f"cannot read the key file {path}: {error.strerror}") from error
        try:
            key = serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it wants a password.
            raise BadIdentity(
                f"{path} is not a key file of this program, or it was cut or altered"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise BadIdentity(f"{path} holds another kind of key; this program uses Ed25519")
        return cls(key.private_bytes_raw())

    def save(self, path: Path) -> None:
        """Write the key to `path`, for its owner's eyes only. A file that is there is left alone.

        Raises:
          BadIdentity: it could not be written, or there is a file already: a key that is
            overwritten is a node that nobody will ever know again.
        """
        if path.exists():
            raise BadIdentity(f"{path} exists and is not overwritten")
        data = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            write_private_file(path, data)
        except OSError as error:
            raise BadIdentity(f"cannot write the key file {path}: {error.strerror}") from error


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` is that of `message` by the owner of `public_key`. Takes bytes of any length."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
