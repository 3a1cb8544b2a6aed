"""What follows from the swarm's secret: the 16 bytes in every join token.

    secret --HKDF-SHA256--> private network key     strangers get no byte past it
           --HKDF-SHA256--> mDNS service name       other swarms are never even dialled

The name is public on the LAN and tells nothing about the key: they are separate outputs.
"""

from __future__ import annotations

import base64
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SECRET_SIZE: Final = 16

_PSK_SIZE: Final = 32
_SERVICE_ID_SIZE: Final = 8
"""Bytes; two swarms on one LAN share a name once in 2**64, and then only fail to connect."""


def derive_psk(secret: bytes) -> bytes:
    """The key (32 bytes) of the libp2p private network."""
    return _derive(secret, b"localai-node/1 private network", _PSK_SIZE)


def derive_mdns_service_name(secret: bytes) -> str:
    """The service name under which members announce themselves, without domain."""
    service_id = _derive(secret, b"localai-node/1 mdns service", _SERVICE_ID_SIZE)
    # At most 15 letters, digits and hyphens (RFC 6335); 8 bytes are 13 letters of base32.
    return "ln" + base64.b32encode(service_id).decode().rstrip("=").lower()


def _derive(secret: bytes, purpose: bytes, size: int) -> bytes:
    assert len(secret) == SECRET_SIZE
    return HKDF(algorithm=hashes.SHA256(), length=size, salt=None, info=purpose).derive(secret)
