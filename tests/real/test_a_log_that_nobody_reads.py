"""A supervisor that stops reading a node's log stops nothing else, and loses no line of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.real

PATIENCE = 60.0
"""Seconds for a node to come up, or to end."""
REQUESTS = 500
"""Each is a line of 300 bytes: together twice what a pipe holds."""


def test_requests_are_answered_while_nobody_reads_the_log_of_them(tmp_path: Path) -> None:
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "node", "start", "--home", str(tmp_path / "home"), "--no-worker"),
            *("--api", "127.0.0.1:0", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"),
            *("--log-format", "json", "--exit-with-stdin"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as node:
        assert node.stdin is not None
        assert node.stderr is not None
        events = (json.loads(line) for line in node.stderr)
        ready = next(event for event in events if event["event"] == "ready")
        with httpx.Client(base_url=ready["api"], timeout=PATIENCE) as client:
            for number in range(REQUESTS):
                asked = {"model": "nobody-has-it", "prompt": "Hi"}
                headers = {"x-request-id": f"number-{number}"}
                assert client.post("/v1/completions", json=asked, headers=headers).status_code == 404
        node.stdin.close()
        told = [event["request_id"] for event in events if event["event"] == "request"]
        assert told == [f"number-{number}" for number in range(REQUESTS)]
        assert node.wait(PATIENCE) == 0
