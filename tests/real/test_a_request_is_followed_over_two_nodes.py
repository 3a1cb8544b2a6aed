"""One request, two machines: each has one line about it in its log, under the id that the client gave it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import OpenAI

from node.models.demo_model import DEMO_MODEL_NAME
from tests.real.conftest import LivingSwarm
from tests.real.swarm_processes import NodeProcess

pytestmark = pytest.mark.real

PHASES = ("queue", "route", "connect", "prefill", "decode")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_request_has_one_line_on_each_of_two_nodes(living_swarm: LivingSwarm, stream: bool) -> None:
    front, request_id = living_swarm.front, f"followed-{stream}"
    with OpenAI(base_url=f"{front.api}/v1", api_key="unused", max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(
            model=DEMO_MODEL_NAME,
            messages=[{"role": "user", "content": "What is the capital of France?"}],
            temperature=0,
            stream=stream,
            extra_headers={"x-request-id": request_id},
        )
        answer = raw.parse()
        text = (
            "".join(chunk.choices[0].delta.content or "" for chunk in answer)  # type: ignore[union-attr]
            if stream
            else answer.choices[0].message.content  # type: ignore[union-attr]
        )
    assert text == "The capital of France is Paris."
    peer = {node.peer_id: node for node in (living_swarm.alpha, living_swarm.beta)}[
        raw.headers["x-localai-peer"]
    ]
    told = [each.split(";dur=") for each in raw.headers["server-timing"].split(", ")]
    assert [name for name, _ in told] == list(PHASES[:4] if stream else PHASES)
    assert all(float(milliseconds) >= 0 for _, milliseconds in told)

    at_front, at_peer = the_line(front, request_id), the_line(peer, request_id)
    assert (at_front["event"], at_front["status"], at_front["peer"]) == ("request", "ok", peer.peer_id)
    assert (at_peer["event"], at_peer["status"], at_peer["front"]) == ("served a peer", "ok", front.peer_id)
    assert at_front["completion_tokens"] == at_peer["completion_tokens"] > 1
    assert at_front["finish"] == at_peer["finish"] == "stop"
    # But for what is no part of routing: to read what is asked, and to write the end.
    assert 0 < sum(at_front[f"{name}_s"] for name in PHASES) < at_front["total_s"] + 0.001
    assert "France" not in json.dumps([at_front, at_peer])


def the_line(node: NodeProcess, request_id: str) -> dict[str, Any]:
    """The one line about that request in the log of `node`."""
    node.wait_until(lambda _: bool(lines(node, request_id)))
    [line] = lines(node, request_id)
    return line


def lines(node: NodeProcess, request_id: str) -> list[dict[str, Any]]:
    """What `node` has logged about that request."""
    events = [json.loads(line) for line in tuple(node.log) if line.startswith("{")]
    return [event for event in events if event.get("request_id") == request_id]
