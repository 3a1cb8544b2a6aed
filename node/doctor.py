"""What a machine must be like to be a node: findings from facts. Pure.

    facts ----------------> findings -----------------> lines
    `examination.py`        here                        `localai-node doctor`

A finding is one line. One that is not `ok` says what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from node.config import API_DEFAULT, LISTEN_DEFAULT, SLOTS_DEFAULT
from node.engine.build import Build
from node.engine.scheduler import BATCH_MAX
from p2p.credential import EXPIRY_LEEWAY, NEVER

Level: TypeAlias = Literal["ok", "warning", "problem"]
"""`warning`: a node runs, and not as well as it could. `problem`: something will not work."""

_GIB = 2**30
_MEMORY_FREE_MIN = 1 * _GIB
"""Bytes: a small model of a billion parameters, with its context."""
_DISK_FREE_MIN = 1 * _GIB
"""Bytes: what `models add --copy` leaves free; below it the ledger will soon find no room."""
_DISK_FREE_LOW = 8 * _GIB
"""Bytes: the model of eight billion parameters that most people try first takes five."""
_RELEASED = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
"""This program is younger, so a clock before that day is wrong."""
_CENTURY_END = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
_EXPIRES_SOON = 86400.0
"""Seconds: a day is enough to ask the founder for a newer token."""

_REINSTALL = (
    "reinstall the same version of llama-cpp-python with CMAKE_ARGS='{flags}-DGGML_RPC=on' "
    "and pip's --no-cache-dir --force-reinstall"
)
_BUILD_FLAGS = (
    ("Metal", "-DGGML_METAL=on "),
    ("Vulkan", "-DGGML_VULKAN=on "),
    ("AMD", "-DGGML_HIP=on "),
    ("", "-DGGML_CUDA=on "),
)
"""What llama.cpp must be built with, by a word in the GPU's name."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    about: str
    text: str
    advice: str = ""
    """What to do; empty if all is well."""

    def __str__(self) -> str:
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.level:<8} {self.about:<13} {self.text}{advice}"


def judge_build(build: Build | str) -> Finding:
    """A text instead of a `build` is why there is none to look at."""
    if isinstance(build, str):
        return Finding("problem", "llama.cpp", f"cannot be loaded: {build}", _REINSTALL.format(flags=""))
    text = f"built for {', '.join(build.backends)}"
    if "RPC" not in build.backends:
        advice = "models that are split over machines will need it: install with `make setup`"
        return Finding("warning", "llama.cpp", f"{text}, without RPC", advice)
    return Finding("ok", "llama.cpp", text)


def judge_gpu(names: Sequence[str], build: Build | str, *, driver_answers: bool) -> Finding:
    """`names`: the GPUs of this machine."""
    if isinstance(build, Build) and build.gpus:
        text = f"{'; '.join(build.gpus)}: as many layers run there as fit"
        return Finding("ok", "GPU", text)
    if not driver_answers:
        advice = "run `nvidia-smi` and mend what it says"
        return Finding("warning", "GPU", "NVIDIA's driver is installed and does not answer", advice)
    if not names:
        return Finding("ok", "GPU", "none that llama.cpp could use; models run on the CPU")
    if names[0].startswith("Intel"):
        text = f"{names[0]}: seldom faster than the CPU, whose memory it shares; models run on the CPU"
        return Finding("ok", "GPU", text)
    flags = next(flags for word, flags in _BUILD_FLAGS if word in names[0])
    advice = f"to use it {_REINSTALL.format(flags=flags)}"
    return Finding("warning", "GPU", f"{', '.join(names)}: this llama.cpp was not built for it", advice)


def defaults_chosen(build: Build | str, memory_bytes: int) -> list[Finding]:
    """What a node does unless it is told otherwise, and why. `memory_bytes`: that models may take."""
    threads = f"{build.threads}" if isinstance(build, Build) else "one per physical core"
    has_gpu = isinstance(build, Build) and bool(build.gpus)
    reasons = {
        "memory": f"{memory_bytes / _GIB:.1f} GiB for all models (--memory): the rest is the machine's own",
        "keep-alive": "for ever (--keep-alive): to load a model again takes longer than to find it there",
        "GPU layers": (
            "as many as fit what is free there" if has_gpu else "none: this llama.cpp found no GPU"
        ),
        "attention": "flash attention where model and build can: it needs no table of all pairs of tokens",
        "KV cache": "f16 (--kv-cache-type): q8_0 halves it, and answers may change a little",
        "batch": f"{BATCH_MAX} tokens at once: more are no faster on a CPU, and hold running answers up",
        "threads": f"{threads} per model: hyperthreads share the units that do the work",
        "slots": f"{SLOTS_DEFAULT} per model: each takes memory for a context of its own",
        "API": f"{API_DEFAULT}: nobody but this machine, until there is a key",
        "listen": f"{LISTEN_DEFAULT}: every network; strangers lack the swarm's secret",
    }
    return [Finding("ok", about, f"by default {reason}") for about, reason in reasons.items()]


def judge_backend(url: str, program: str, models: int, trouble: str) -> Finding:
    """`trouble`: why a server that shall be attached cannot be used; empty if it can."""
    if trouble:
        return Finding("warning", "backend", trouble, "its models are served as soon as it answers")
    if not models:
        return Finding("warning", "backend", f"{program} at {url} has no models", "give it one")
    return Finding("ok", "backend", f"{program} at {url} has {models} model{'' if models == 1 else 's'}")


def judge_memory(total_bytes: int, available_bytes: int) -> Finding:
    text = f"{available_bytes / _GIB:.1f} of {total_bytes / _GIB:.1f} GiB free"
    if available_bytes < _MEMORY_FREE_MIN:
        return Finding("warning", "memory", text, "close other programs, or serve small models")
    return Finding("ok", "memory", f"{text}; a model takes its file's size and its contexts")


def judge_disk(home: str, free_bytes: int) -> Finding:
    text = f"{free_bytes / _GIB:.1f} GiB free for {home}"
    if free_bytes < _DISK_FREE_MIN:
        return Finding("problem", "disk", text, "make room, or choose another --home")
    if free_bytes < _DISK_FREE_LOW:
        return Finding("warning", "disk", text, "make room before adding models with --copy")
    return Finding("ok", "disk", text)


def judge_api_port(place: str, *, is_ours: bool, failure: str) -> Finding:
    """`failure`: why it cannot be listened on; empty if it can."""
    if is_ours:
        return Finding("ok", "API port", f"{place}: our node answers there")
    if failure:
        advice = "choose another with --api HOST:PORT"
        return Finding("problem", "API port", f"{place} cannot be used: {failure}", advice)
    return Finding("ok", "API port", f"{place} is free")


def judge_listen_port(place: str, *, is_ours: bool, is_asked: bool, failure: str) -> Finding:
    """`is_asked`: somebody chose it; otherwise a node that finds it taken goes on to the next."""
    if is_ours:
        return Finding("ok", "listen port", f"{place}: our node listens there")
    if not failure:
        return Finding("ok", "listen port", f"{place} is free")
    text = f"{place} cannot be used: {failure}"
    if is_asked:
        return Finding("problem", "listen port", text, "choose another with --listen MULTIADDR")
    advice = "the node will take the next free one; show tokens made before again with `token show`"
    return Finding("warning", "listen port", text, advice)


def judge_clock(unix_time: float, newest_file: float) -> Finding:
    """`newest_file`: when a file of the home was written last, by the same clock; 0 if there is none."""
    advice = "set it, and turn on time synchronisation: an invite's expiry is judged by it"
    if not _RELEASED <= unix_time < _CENTURY_END:
        return Finding("problem", "clock", f"{_date(unix_time)} cannot be right", advice)
    if newest_file > unix_time + EXPIRY_LEEWAY:
        text = f"{_date(unix_time)} is before {_date(newest_file)}, when this home was written"
        return Finding("problem", "clock", text, advice)
    leeway = f"{EXPIRY_LEEWAY / 60:g} minutes leeway"
    text = f"{_date(unix_time)}; each member judges by its own when invites end, with {leeway}"
    return Finding("ok", "clock", text)


def judge_place(swarm: str, expires_at: int, unix_time: float) -> Finding:
    """`expires_at`: of this node's right to be in the swarm."""
    if expires_at == NEVER:
        return Finding("ok", "place", f"in swarm {swarm}, for good")
    remaining = expires_at - unix_time
    advice = "join again with a newer token"
    if remaining <= 0:
        return Finding("problem", "place", f"in swarm {swarm} is over: the others admit us no more", advice)
    text = f"in swarm {swarm} ends in {remaining / 3600:.0f} h"
    if remaining < _EXPIRES_SOON:
        return Finding("warning", "place", text, advice)
    return Finding("ok", "place", text)


def judge_private_file(name: str, path: str, *, mode: int, problem: str) -> Finding:
    """`mode`: its permission bits, 0 where there are none. `problem`: why it cannot be used."""
    if problem:
        return Finding("problem", name, problem, "bring it back from a copy, or start anew in another --home")
    if mode & 0o077:
        text = f"{path} can be opened by others (mode {mode:o})"
        return Finding("problem", name, text, f"chmod 600 {path}")
    return Finding("ok", name, "is yours alone")


def judge_reachability(multiaddrs: Sequence[str]) -> Finding:
    """`multiaddrs`: where others find the node, without loopback."""
    if not multiaddrs:
        advice = "connect the machine to a network, or let the node --listen on more"
        return Finding("warning", "reachability", "only nodes on this machine find this one", advice)
    return Finding("ok", "reachability", f"others find this node at {', '.join(multiaddrs)}")


def judge_models(nodes: Sequence[Mapping[str, Any]], me: str) -> list[Finding]:
    """What the running node `me` itself warns of. `nodes`: rows of `/api/swarm`."""
    advice = "unpin, rename or remove one"
    return [
        Finding("warning", "models", warning, advice)
        for node in nodes
        if node["id"] == me
        for warning in node["warnings"]
    ]


def judge_connections(nodes: Sequence[Mapping[str, Any]], me: str) -> Finding:
    """`nodes`: rows of `/api/swarm`."""
    others = [node for node in nodes if node["id"] != me]
    if not others:
        return Finding("ok", "connections", "this is the swarm's only node")
    connected = [node["name"] for node in others if node["rtt_ms"] is not None]
    if connected:
        return Finding("ok", "connections", f"to {', '.join(connected)}; {len(others)} other nodes are known")
    advice = "start one of them, or look for a firewall between you"
    return Finding("warning", "connections", f"to none of the {len(others)} other nodes", advice)


def judge_known_addresses(answered: Sequence[str], silent: Sequence[str]) -> Finding:
    """Addresses of other nodes, by whether somebody took a TCP connection there."""
    total = len(answered) + len(silent)
    if answered or not total:
        known = f"{len(answered)} of {total} known addresses of other nodes answer"
        return Finding("ok", "known peers", known if total else "no addresses of other nodes yet")
    text = f"none of {total} known addresses of other nodes answers, for example {silent[0]}"
    advice = "is one of them running? Does a firewall drop connections to that port?"
    return Finding("warning", "known peers", text, advice)


def _date(unix_time: float) -> str:
    try:
        return f"{datetime.fromtimestamp(unix_time, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{unix_time:.0f} s after 1970"
