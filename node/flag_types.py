"""Values that flags take: from text, or one line on why that text will not do.

click tells the line together with the flag's name, and ends with exit code 2.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from ipaddress import ip_address

import click

from node.attached.server_url import ServerUrl
from p2p.errors import BadAddress
from p2p.tcp_address import tcp_endpoint

_NAME_LENGTH_MAX = 64
"""Peers refuse a longer one (`p2p/hello.py`)."""

_SECONDS_OF_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES_OF_UNIT = {"M": 2**20, "G": 2**30, "T": 2**40}

FOREVER = "forever"


@dataclass(frozen=True, slots=True)
class HostPort:
    """Where the HTTP API listens. Port 0: any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> HostPort:
        """`HOST:PORT`, an IPv6 host in brackets.

        Raises:
          ValueError: it is something else.
        """
        host, separator, port = text.rpartition(":")
        if not separator or not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"{text!r} is not HOST:PORT, for example 127.0.0.1:8080")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))


class HostPortType(click.ParamType[HostPort]):
    name = "host:port"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> HostPort:
        if isinstance(value, HostPort):
            return value
        try:
            return HostPort.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class MultiaddrType(click.ParamType[str]):
    """A TCP multiaddr that can be listened on: an address, since a name may mean several."""

    name = "multiaddr"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            host, _ = tcp_endpoint(str(value))
            ip_address(host)
        except BadAddress as error:
            self.fail(str(error), param, ctx)
        except ValueError:
            self.fail(f"{value!r} has a name for a host; give an address", param, ctx)
        return str(value)


class NameType(click.ParamType[str]):
    name = "name"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name = str(value).strip()
        if not name or not name.isprintable() or len(name) > _NAME_LENGTH_MAX:
            self.fail(f"a node's name is 1 to {_NAME_LENGTH_MAX} printable characters", param, ctx)
        return name


class LabelType(click.ParamType[str]):
    """What a request's header may name, with commas between several."""

    name = "label"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        label = str(value).strip()
        if not label or not label.isprintable() or "," in label or len(label) > _NAME_LENGTH_MAX:
            self.fail(f"a label is 1 to {_NAME_LENGTH_MAX} printable characters without a comma", param, ctx)
        return label


class ApiKeyType(click.ParamType[str]):
    """What can stand in a header. An empty one, from a variable that is not set, would lock everybody out."""

    name = "key"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        key = str(value)
        if not key or key != key.strip() or not key.isascii() or not key.isprintable():
            # Without the key itself: what is told here may end up in a log.
            self.fail("a key is printable ASCII, not empty, without space at its ends", param, ctx)
        return key


class ServerUrlType(click.ParamType[ServerUrl]):
    name = "url"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> ServerUrl:
        if isinstance(value, ServerUrl):
            return value
        try:
            return ServerUrl.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class DurationType(click.ParamType[int]):
    """`30m`, `1h`, `7d`, as seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration; write 30m, 1h or 7d", param, ctx)
        return int(match[1]) * _SECONDS_OF_UNIT[match[2]]


class KeepAliveType(click.ParamType[float]):
    """`90s`, `5m`, `1h`, `7d`, `0` or `forever`, as seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float) or value in (0, "0"):
            return float(value)
        if value == FOREVER:
            return math.inf
        match = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration; write 90s, 5m, 1h, 0 or {FOREVER}", param, ctx)
        return float(int(match[1]) * _SECONDS_OF_UNIT[match[2]])


class SizeType(click.ParamType[int]):
    """`500MB`, `6GB`, `1.5GiB`, as bytes. All are powers of 1024, as memory is sold."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int) and value >= _BYTES_OF_UNIT["M"]:
            return value
        match = re.fullmatch(
            r"([0-9]{1,5}(?:\.[0-9]{1,3})?)([MGT])(?:i?B)?", str(value).strip(), re.IGNORECASE
        )
        size_bytes = round(float(match[1]) * _BYTES_OF_UNIT[match[2].upper()]) if match else 0
        if size_bytes == 0:
            self.fail(f"{value!r} is not a size; write 500MB or 6GB", param, ctx)
        return size_bytes
