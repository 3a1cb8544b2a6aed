"""Neighbours find each other by real multicast, in a network namespace where nobody else is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
OWN_NETWORK = (
    "ip link set lo up && ip link add here type veth peer name there"
    " && ip addr add 10.9.9.1/24 dev here && ip link set here up && ip link set there up"
    " && ip route add default dev here"
)
UNSHARE = shutil.which("unshare")


def in_own_network(command: str) -> subprocess.CompletedProcess[str]:
    assert UNSHARE
    return subprocess.run(
        [UNSHARE, "--map-root-user", "--net", "sh", "-c", f"{OWN_NETWORK} && {command}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not UNSHARE or in_own_network("true").returncode != 0,
        reason="no network namespace can be made here, and multicast must not leave the machine",
    ),
]


def test_members_find_each_other_and_no_stranger() -> None:
    script = Path(__file__).with_name("mdns_pair.py")
    result = in_own_network(f"exec {sys.executable} {script} 4")
    assert result.returncode == 0, result.stderr
    assert set(result.stdout.splitlines()) == {
        "first found second /ip4/10.9.9.1/tcp/4747",
        "second found first /ip4/10.9.9.1/tcp/4747",
    }


def test_nodes_find_each_other_where_their_token_leads_nowhere(tmp_path: Path) -> None:
    script = Path(__file__).with_name("mdns_nodes.py")
    result = in_own_network(f"exec {sys.executable} {script} {tmp_path}")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["founder sees both", "joiner sees both"]
