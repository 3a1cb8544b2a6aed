"""llama-cpp-python's own server, a program that is none of ours, as the worker of a node of a swarm."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import openai
import pytest

from node.models.demo_model import find_demo_model
from tests.real.conftest import LivingSwarm
from tests.real.swarm_processes import Rows, serves

pytestmark = pytest.mark.real

NAME = "attic"
MODEL = "smollm2-elsewhere"


@dataclass
class StockServer:
    url: str
    process: subprocess.Popen[str]


@pytest.fixture
def client(living_swarm: LivingSwarm) -> Iterator[openai.OpenAI]:
    url = f"{living_swarm.front.api}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def stock_server() -> Iterator[StockServer]:
    command = [sys.executable, "-m", "tests.real.stock_server", "--model", str(find_demo_model())]
    flags = ["--model_alias", MODEL, "--host", "127.0.0.1", "--port", "0", "--n_ctx", "512"]
    with subprocess.Popen(
        [*command, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", line):
                break
        else:
            pytest.fail("".join(said))
        # What it says of each request must not fill the pipe.
        reader = threading.Thread(target=process.stderr.read, name="log of the stock server")
        reader.start()
        yield StockServer(found[1], process)
        process.kill()
        reader.join()


def test_a_stock_server_is_asked_through_the_swarm_and_missed_when_it_is_gone(
    living_swarm: LivingSwarm, stock_server: StockServer, client: openai.OpenAI
) -> None:
    flags = ("--no-worker", "--backend", stock_server.url)
    attic = living_swarm.nodes.run("join", NAME, *flags, token=living_swarm.token)
    front = living_swarm.front
    front.wait_until(lambda rows: serves(rows, NAME))
    [model] = front.rows()[NAME]["models"]
    assert (model["name"], model["program"]) == (MODEL, "llama_cpp.server")

    answer = client.chat.completions.with_raw_response.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Name the capital of France."}],
        temperature=0,
        max_tokens=16,
    )
    assert answer.headers["x-localai-peer"] == attic.peer_id
    whole = answer.parse()
    assert "Paris" in (whole.choices[0].message.content or "")
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert whole.usage.completion_tokens >= 5
    counted = client.completions.create(
        model=MODEL, prompt="1, 2, 3,", temperature=0, max_tokens=6, echo=True
    )
    assert counted.choices[0].text.startswith("1, 2, 3, 4, 5")

    with pytest.raises(openai.BadRequestError, match=r"llama_cpp\.server") as caught:
        client.completions.create(model=MODEL, prompt="x", n=2)
    assert caught.value.param == "n"

    # Its one slot is free again as soon as a client has left.
    with client.completions.create(model=MODEL, prompt="1, 2, 3,", stream=True, max_tokens=400) as stream:
        next(iter(stream))
    front.wait_until(lambda rows: rows[NAME]["slots_busy"] == 0)
    assert client.completions.create(model=MODEL, prompt="1, 2", max_tokens=2).choices[0].text

    stock_server.process.kill()
    stock_server.process.wait()
    with pytest.raises(openai.InternalServerError, match="no server answers at"):
        client.completions.create(model=MODEL, prompt="x")
    front.wait_until(has_failed)


def has_failed(rows: Rows) -> bool:
    return any(model["state"] == "failed" for model in rows[NAME]["models"])
