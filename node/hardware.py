"""What this machine is, for people and for coarse placement.

    {"cpu": "AMD Ryzen 7", "cores": 8, "memory_bytes": 34359738368, "system": "Linux", "gpu": ["RTX 4070"]}

Read once, at start: none of it changes while a node runs.
"""

from __future__ import annotations

import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from node.child_environment import child_environment

MODELS_MEMORY = "models_memory_bytes"
"""What models may take of a machine's memory, beside what it is: its owner may say so (`--memory`)."""
_MEMORY_RESERVE = 2 * 2**30
"""Bytes that no model takes: what a desktop with a browser needs."""
_VULKAN_VENDORS = {"0x1002": "AMD", "0x8086": "Intel"}
"""PCI's numbers. NVIDIA's cards with a driver answer `nvidia-smi`."""
_GPU_QUERY_TIMEOUT = 3.0
"""Seconds: `nvidia-smi` wakes the driver, which takes one; a broken driver never answers."""


def describe_machine() -> dict[str, Any]:
    """The machine as it goes into the node's record. Blocks for as long as the GPU's driver takes."""
    return {
        "cpu": _cpu_name(),
        "cores": psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.system(),
        "gpu": gpu_names(),
    }


def usable_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's."""
    total = int(psutil.virtual_memory().total)
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return total
    return min(total, int(limit)) if limit.isdecimal() else total


def memory_for_models(usable_bytes: int) -> int:
    """How much of `usable_bytes` models may take, unless somebody says so: the rest is the machine's own.

    A fifth stays free, and 2 GiB at least, which a desktop with a browser needs; of a small machine half.
    """
    return usable_bytes - min(max(usable_bytes // 5, _MEMORY_RESERVE), usable_bytes // 2)


def declared_memory(hardware: Mapping[str, Any]) -> int:
    """How much models may take on a machine, as the record of its node says, or as that follows from what it
    says of its memory; 0: it does not say."""
    said = hardware.get(MODELS_MEMORY)
    if isinstance(said, int) and said > 0:
        return said
    memory_bytes = hardware.get("memory_bytes")
    return memory_for_models(memory_bytes) if isinstance(memory_bytes, int) and memory_bytes > 0 else 0


def machine_names() -> tuple[str, ...]:
    """What others on the local network call this machine, by DNS and by mDNS."""
    name = socket.gethostname()
    short = name.partition(".")[0]
    return tuple(dict.fromkeys((name, short, f"{short}.local")))


def gpu_names() -> list[str]:
    """The GPUs that llama.cpp could use if it was built for them."""
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return [f"{_cpu_name()} (Metal)"]
    names = nvidia_names() or []
    if Path("/dev/kfd").exists():
        names.append("AMD (ROCm)")
    # What a vendor's own interface reaches is not to be named twice.
    return names or vulkan_names(Path("/sys/class/drm"))


def vulkan_names(drm: Path) -> list[str]:
    """Graphics cards that llama.cpp reaches through Vulkan only. `drm`: where Linux lists them."""
    vendors = set()
    for file in drm.glob("card*/device/vendor"):
        try:
            vendors.add(file.read_text(encoding="ascii").strip())
        except (OSError, ValueError):
            continue  # It has just gone, or is not ours to read.
    # Not those of virtual machines, which draw and do not compute.
    return [f"{name} (Vulkan)" for vendor, name in _VULKAN_VENDORS.items() if vendor in vendors]


def nvidia_names() -> list[str] | None:
    """NVIDIA's GPUs as its driver names them; None: there is a driver, and it does not answer."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        shown = subprocess.run(
            [tool, "--query-gpu=name", "--format=csv,noheader"],
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=_GPU_QUERY_TIMEOUT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return [line.strip() for line in shown.stdout.splitlines() if line.strip()]


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
