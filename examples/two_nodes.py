"""Two nodes on one machine: one founds a swarm and has the model, the other joins it and only asks.

    python examples/two_nodes.py

Each is a process with a home of its own. Both hold the read end of a pipe from here
(`--exit-with-stdin`), so they end when this program does, however it ends.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, check_output

import httpx

PROGRAM = [sys.executable, "-m", "node"]
"""`localai-node`, as this Python has it."""


@contextmanager
def running_node(command: str, home: Path, *flags: str) -> Iterator[str]:
    """A node that is ready; gives the address of its API."""
    where = ["--home", str(home), "--listen", "/ip4/127.0.0.1/tcp/0", "--api", "127.0.0.1:0", "--no-mdns"]
    arguments = [*PROGRAM, command, *where, "--log-format", "json", "--exit-with-stdin", *flags]
    with Popen(arguments, stdin=PIPE, stdout=DEVNULL, stderr=PIPE) as process:
        events = map(json.loads, process.stderr or ())
        yield next(event["api"] for event in events if event["event"] == "ready")


def wait_until_it_can_serve(api: str) -> None:
    give_up_at = time.monotonic() + 60
    while not httpx.get(f"{api}/readyz").is_success:
        if time.monotonic() > give_up_at:
            sys.exit(httpx.get(f"{api}/readyz").text)
        time.sleep(0.1)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        desktop, laptop = Path(folder, "desktop"), Path(folder, "laptop")
        with running_node("start", desktop, "--model", "demo"):
            token = check_output([*PROGRAM, "token", "show", "--home", str(desktop)], text=True)
            os.environ["LOCALAI_NODE_TOKEN"] = token.split()[-1]
            with running_node("front", laptop) as api:
                wait_until_it_can_serve(api)
                request = {"model": "smollm2-135m-instruct", "prompt": "One, two, three,", "max_tokens": 8}
                answer = httpx.post(f"{api}/v1/completions", json=request, timeout=60).raise_for_status()
                print(f"One, two, three,{answer.json()['choices'][0]['text']}")
                print(f"(asked at {api}, answered by {answer.headers['x-localai-peer']})")


if __name__ == "__main__":
    main()
