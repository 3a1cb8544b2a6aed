"""The llama.cpp that is installed: what it was built for, and what memory its GPUs have free now.

Asked of a process of its own: where the build does not fit the CPU, that one dies.
"""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from node.child_environment import child_environment

_DESCRIBE = (sys.executable, "-P", "-m", "node.engine.describe")
_DESCRIBE_TIMEOUT = 60.0
"""Seconds: a GPU's driver that was asleep takes some; a disk that was, too."""
_SHARING_LIBRARIES = frozenset({"base", "cpu", "blas", "rpc", "metal"})
"""Parts of ggml that compute in the machine's own memory."""


@dataclass(frozen=True, slots=True)
class Build:
    """The llama.cpp that is installed, as it describes itself."""

    backends: tuple[str, ...]
    """What it can compute with: `CPU`, `RPC`, `CUDA`, ..."""
    gpus: tuple[str, ...]
    """Those it found and will use."""
    threads: int
    """That an engine takes by default."""
    device_free_bytes: tuple[int, ...] = ()
    """Of each GPU with memory of its own."""


def describe_build(command: Sequence[str] = _DESCRIBE) -> Build | str:
    """The llama.cpp that is installed, or why it cannot be loaded. Takes a second."""
    try:
        shown = subprocess.run(
            command, env=child_environment(), capture_output=True, timeout=_DESCRIBE_TIMEOUT, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    if shown.returncode:
        # A negative status is the signal that ended it (Unix).
        status = shown.returncode
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"exited with {status:#x}"
        last_words = shown.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return f"its process {how} ({last_words or 'without a word'})"
    said = json.loads(shown.stdout)
    return Build(
        tuple(said["backends"]),
        tuple(said["gpus"]),
        int(said["threads"]),
        tuple(said["device_free_bytes"]),
    )


def free_device_bytes() -> Sequence[int]:
    """What each GPU with memory of its own has free now. Takes a second, where the build knows any."""
    spec = importlib.util.find_spec("llama_cpp")
    folders = spec.submodule_search_locations if spec is not None else None
    libraries = [path.name for folder in folders or () for path in Path(folder, "lib").glob("*ggml-*")]
    if not knows_own_memory(libraries):
        return ()
    build = describe_build()
    return build.device_free_bytes if isinstance(build, Build) else ()


def knows_own_memory(libraries: Sequence[str]) -> bool:
    """Whether any of ggml's `libraries`, by file name, is for devices with memory of their own."""
    parts = (re.match(r"(?:lib)?ggml-([a-z]+)", name) for name in libraries)
    return any(part is not None and part[1] not in _SHARING_LIBRARIES for part in parts)
