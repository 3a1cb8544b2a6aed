"""A network of its own for one node, and the link to it, which can be cut without either end hearing of it.

    front, client  10.78.N.1 ----- veth ----- 10.78.N.2  worker

Cut, packets vanish and connections stay open on both sides: what a pulled cable, a laptop that left the room
or a router that forgot a connection look like. It takes Linux and the right to make network namespaces.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from types import TracebackType
from typing import Self

IP = shutil.which("ip")


class Link:
    """The link number `number`, from entering the context to leaving it."""

    def __init__(self, number: int) -> None:
        # With our process's id: two runs at once must not meet. A device's name has 15 characters at most.
        self._namespace = f"cut-{os.getpid()}-{number}"
        self._ours, self._theirs = f"cut{os.getpid()}o{number}", f"cut{os.getpid()}t{number}"
        self._network = f"10.78.{number}"
        self.command = (str(IP), "netns", "exec", self._namespace)
        """What runs the program that follows behind the link."""
        self.our_flags = ("--listen", f"/ip4/{self._network}.1/tcp/0")
        """Of a node on our side."""
        self.their_flags = (
            *("--listen", f"/ip4/{self._network}.2/tcp/0"),
            *("--api", f"{self._network}.2:0", "--allow-unauthenticated"),
        )
        """Of the node behind it."""

    def __enter__(self) -> Self:
        _ip("netns", "add", self._namespace)
        try:
            _ip(
                "link",
                "add",
                self._ours,
                "type",
                "veth",
                "peer",
                "name",
                self._theirs,
                "netns",
                self._namespace,
            )
            _ip("address", "add", f"{self._network}.1/24", "dev", self._ours)
            _ip("-n", self._namespace, "address", "add", f"{self._network}.2/24", "dev", self._theirs)
            _ip("link", "set", self._ours, "up")
            _ip("-n", self._namespace, "link", "set", "lo", "up")
            self.join()
        except BaseException:
            self._take_down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._take_down()

    def cut(self) -> None:
        """From now on nothing gets through."""
        _ip("-n", self._namespace, "link", "set", self._theirs, "down")

    def join(self) -> None:
        """Let everything through again."""
        _ip("-n", self._namespace, "link", "set", self._theirs, "up")
        # Gone with the link. Who is behind it may have connected to any of our addresses.
        _ip("-n", self._namespace, "route", "replace", "default", "via", f"{self._network}.1")

    def _take_down(self) -> None:
        # The link too: the namespace takes its time to go, and whatever is in it.
        subprocess.run([str(IP), "link", "delete", self._ours], check=False, capture_output=True)
        _ip("netns", "delete", self._namespace)


def can_be_made() -> bool:
    """Whether this machine lets us have a network of our own."""
    if IP is None:
        return False
    try:
        with Link(0):
            return True
    except subprocess.CalledProcessError:
        return False


def _ip(*arguments: str) -> None:
    subprocess.run([str(IP), *arguments], check=True, capture_output=True)
