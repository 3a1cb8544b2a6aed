"""What is derived from a swarm's secret stays fixed, since old and new nodes must agree on it."""

from __future__ import annotations

import re

from p2p.secret import derive_mdns_service_name, derive_psk

SECRET = bytes(range(16))


def test_the_derivations_never_change() -> None:
    assert derive_psk(SECRET).hex() == "5cbf5f0645eb7293904c883767b188cdef1d2a88a5076db8a3d0d64b61d14d8a"
    assert derive_mdns_service_name(SECRET) == "lnzzyecpaaekwpy"


def test_two_secrets_share_nothing() -> None:
    other = bytes(16)
    assert derive_psk(SECRET) != derive_psk(other)
    assert derive_mdns_service_name(SECRET) != derive_mdns_service_name(other)


def test_the_service_name_is_one_that_dns_sd_allows() -> None:
    for first in range(256):
        assert re.fullmatch(r"[a-z][a-z0-9]{0,14}", derive_mdns_service_name(bytes([first]) * 16))
