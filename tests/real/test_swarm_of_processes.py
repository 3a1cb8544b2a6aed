"""A swarm of real nodes keeps answering, whatever happens to one of them."""

from __future__ import annotations

import http.client
import json
import signal
import sys
from contextlib import closing
from urllib.parse import urlsplit

import psutil
import pytest
from openai import OpenAI

from node.models.demo_model import DEMO_MODEL_NAME
from tests.real.conftest import LivingSwarm
from tests.real.swarm_processes import NodeProcess, NodeProcesses, is_online, is_running, serves

pytestmark = pytest.mark.real

REQUESTS = 50
"""Half of them before the death, half after."""


def test_nobody_notices_that_a_serving_node_was_killed(living_swarm: LivingSwarm) -> None:
    gamma = living_swarm.nodes.run("join", "gamma", "--model", "demo", token=living_swarm.token)
    front = living_swarm.front
    front.wait_until(lambda rows: serves(rows, "alpha", "beta", "gamma"))
    with OpenAI(base_url=f"{front.api}/v1", api_key="unused", max_retries=0) as client:
        # Preferred, or who serves would be a matter of who was fastest so far.
        before = {streamed_chat(client, prefer="gamma") for _ in range(REQUESTS // 2)}
        gamma.kill()
        after = {streamed_chat(client, prefer="gamma") for _ in range(REQUESTS - REQUESTS // 2)}
    assert before == {gamma.peer_id}
    assert after <= {living_swarm.alpha.peer_id, living_swarm.beta.peer_id}


def test_a_killed_node_is_not_online_a_second_later(living_swarm: LivingSwarm) -> None:
    witnesses = (living_swarm.alpha, living_swarm.beta, living_swarm.front)
    victim = living_swarm.nodes.run("join", "victim", token=living_swarm.token)
    for witness in witnesses:
        witness.wait_until(lambda rows: is_online(rows, "victim"))
    victim.kill()
    for witness in witnesses:
        witness.wait_until(lambda rows: not is_online(rows, "victim"), within=1)


def test_a_frozen_node_is_not_online_until_it_goes_on(living_swarm: LivingSwarm) -> None:
    beta, witnesses = living_swarm.beta, (living_swarm.alpha, living_swarm.front)
    beta.freeze()
    try:
        for witness in witnesses:
            witness.wait_until(lambda rows: not is_online(rows, "beta"), within=5)
    finally:
        beta.thaw()
    for witness in (*witnesses, beta):
        witness.wait_until(lambda rows: serves(rows, "alpha", "beta"))


def test_a_front_serves_what_it_does_not_have(living_swarm: LivingSwarm) -> None:
    front = living_swarm.front
    assert front.rows()["front"]["models"] == []
    assert front.get("/readyz").status_code == 200
    with OpenAI(base_url=f"{front.api}/v1", api_key="unused", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == [DEMO_MODEL_NAME]
        answer = client.chat.completions.create(
            model=DEMO_MODEL_NAME,
            messages=[{"role": "user", "content": "What is the capital of France?"}],
            temperature=0,
        )
    assert answer.choices[0].message.content == "The capital of France is Paris."


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_client_that_hangs_up_frees_the_slot_on_the_peer(living_swarm: LivingSwarm, stream: bool) -> None:
    peers = (living_swarm.alpha, living_swarm.beta)
    with closing(start_endless_answer(living_swarm.front, stream=stream)):
        # Each is asked about itself: what a front says of others is also what it has leased.
        living_swarm.front.wait_until(lambda _: sum(own_slots_busy(peer) for peer in peers) == 1)
    for node in (living_swarm.front, *peers):
        node.wait_until(lambda rows: not any(row["slots_busy"] for row in rows.values()), within=5)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals to catch")
def test_a_node_told_to_stop_says_away_and_comes_back_without_a_token(living_swarm: LivingSwarm) -> None:
    front = living_swarm.front
    guest = living_swarm.nodes.run("join", "guest", token=living_swarm.token)
    front.wait_until(lambda rows: is_online(rows, "guest"))
    guest.process.send_signal(signal.SIGTERM)
    assert guest.wait() == 0
    assert front.rows()["guest"]["state"] == "offline"
    again = living_swarm.nodes.run("start", "guest")
    assert again.peer_id == guest.peer_id
    front.wait_until(lambda rows: is_online(rows, "guest"))


def test_a_node_that_leaves_is_forgotten_everywhere_a_second_later(living_swarm: LivingSwarm) -> None:
    witnesses = (living_swarm.alpha, living_swarm.beta, living_swarm.front)
    leaver = living_swarm.nodes.run("join", "leaver", token=living_swarm.token)
    for witness in witnesses:
        witness.wait_until(lambda rows: is_online(rows, "leaver"))
    leaver.command("leave")
    for witness in witnesses:
        witness.wait_until(lambda rows: "leaver" not in rows, within=1)
    assert leaver.wait() == 0
    assert not (leaver.home / "swarm.msgpack").exists()


def test_a_crashed_engine_costs_nobody_an_answer(living_swarm: LivingSwarm) -> None:
    alpha, front = living_swarm.alpha, living_swarm.front
    for engine in alpha.engines():
        engine.kill()
    with OpenAI(base_url=f"{front.api}/v1", api_key="unused", max_retries=0) as client:
        for _ in range(5):
            streamed_chat(client)
    front.wait_until(lambda rows: serves(rows, "alpha"))


def test_no_engine_outlives_a_killed_node(nodes: NodeProcesses) -> None:
    node = nodes.run("start", "alone", "--model", "demo")
    node.wait_until(lambda rows: serves(rows, "alone"))
    # Afterwards what renders its chats is up too, and not on its way.
    with OpenAI(base_url=f"{node.api}/v1", api_key="unused", max_retries=0) as client:
        streamed_chat(client)
    engines = node.engines()
    assert engines
    node.kill()
    _, left = psutil.wait_procs(engines, timeout=1)
    assert [engine for engine in left if is_running(engine)] == []


def streamed_chat(client: OpenAI, *, prefer: str = "") -> str:
    """Have one short answer streamed, by the node of that name if it can; returns the peer that gave it."""
    answer = client.chat.completions.with_raw_response.create(
        model=DEMO_MODEL_NAME,
        messages=[{"role": "user", "content": "Count to ten."}],
        max_tokens=4,
        extra_body={"ignore_eos": True},
        extra_headers={"x-localai-prefer": prefer} if prefer else {},
        stream=True,
        stream_options={"include_usage": True},
    )
    with answer.parse() as stream:
        chunks = list(stream)
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.completion_tokens == 4
    return str(answer.headers["x-localai-peer"])


def start_endless_answer(node: NodeProcess, *, stream: bool) -> http.client.HTTPConnection:
    """A connection on which `node` is giving an answer longer than any test."""
    connection = http.client.HTTPConnection(urlsplit(node.api).netloc)
    request = {
        "model": DEMO_MODEL_NAME,
        "prompt": "Once upon a time",
        "max_tokens": 2000,
        "ignore_eos": True,
        "stream": stream,
    }
    connection.request(
        "POST", "/v1/completions", json.dumps(request), headers={"Content-Type": "application/json"}
    )
    return connection


def own_slots_busy(node: NodeProcess) -> int:
    return int(node.rows()[node.name]["slots_busy"])
