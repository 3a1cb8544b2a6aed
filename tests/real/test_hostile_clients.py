"""Clients that waste what a node has: bounded, and everybody else is served."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from api.serve import CONNECTIONS_MAX
from node.models.demo_model import DEMO_MODEL_NAME
from tests.real.conftest import LivingSwarm
from tests.real.swarm_processes import NodeProcess

pytestmark = pytest.mark.real

IDLE_CLIENTS = 1000
SLOW_CLIENTS = 600
"""More than a node lets in at once."""
HASTY_CLIENTS = 200
HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: "


@contextmanager
def connections(node: NodeProcess, count: int) -> Iterator[list[socket.socket]]:
    """So many of them, to its API."""
    url = urlsplit(node.api)
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection((url.hostname, url.port))) for _ in range(count)]


def is_served(node: NodeProcess) -> bool:
    """Whether somebody else is, who comes new."""
    return httpx.get(f"{node.api}/healthz", timeout=10).status_code == 200


def open_connections(node: NodeProcess) -> int:
    """How many of its API's it holds."""
    port = urlsplit(node.api).port
    return sum(
        each.status == psutil.CONN_ESTABLISHED and each.laddr.port == port
        for each in psutil.Process(node.process.pid).net_connections("tcp")
    )


def test_a_thousand_idle_connections_shut_nobody_out(living_swarm: LivingSwarm) -> None:
    front = living_swarm.front
    with connections(front, IDLE_CLIENTS):
        assert is_served(front)
        assert open_connections(front) <= CONNECTIONS_MAX


def test_heads_that_come_a_byte_at_a_time_shut_nobody_out(living_swarm: LivingSwarm) -> None:
    front = living_swarm.front
    with connections(front, SLOW_CLIENTS) as clients:
        for position in range(3):
            for client in clients:
                # Some were closed to make room.
                with contextlib.suppress(ConnectionError):
                    client.send(HEAD[position : position + 1])
            assert is_served(front)
        assert open_connections(front) <= CONNECTIONS_MAX


def test_clients_that_hang_up_as_soon_as_they_have_asked_leave_nothing_behind(
    living_swarm: LivingSwarm,
) -> None:
    front = living_swarm.front
    body = json.dumps(
        {"model": DEMO_MODEL_NAME, "prompt": "Once", "max_tokens": 500, "stream": True}
    ).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    for _ in range(HASTY_CLIENTS):
        with connections(front, 1) as [client]:
            client.sendall(head.encode() + body)
    front.wait_until(lambda _: not front.get("/api/swarm").json()["waiting"])
    for node in (front, living_swarm.alpha, living_swarm.beta):
        # To finish them all would take ten times as long as this waits.
        node.wait_until(lambda rows: not any(row["slots_busy"] for row in rows.values()))
    asked = {"model": DEMO_MODEL_NAME, "prompt": "Hi", "max_tokens": 2}
    assert httpx.post(f"{front.api}/v1/completions", json=asked, timeout=30).status_code == 200
