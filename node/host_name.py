"""Whether a text can be the name or address of a machine, as it stands in a URL. Pure."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)
"""Of a machine. Python's resolver raises what nobody expects of others."""
_NUMBERS = re.compile(r"[0-9]+(\.[0-9]+){3}")


def is_host(host: str) -> bool:
    """Whether `host`, without brackets around an IPv6 address, can be looked up or dialled."""
    try:
        if ":" in host:
            return IPv6Address(host).scope_id is None
        if _NUMBERS.fullmatch(host):
            IPv4Address(host)
    except ValueError:
        return False
    return _NAME.fullmatch(host) is not None
