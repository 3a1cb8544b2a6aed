"""What a node takes of its machine: memory and processor time of all its processes."""

from __future__ import annotations

import psutil

from tests.real.swarm_processes import NodeProcess


def processor_time(node: NodeProcess) -> float:
    """Seconds that its processes have computed so far."""
    times = [process.cpu_times() for process in _processes(node)]
    return sum(time.user + time.system for time in times)


def resident_bytes(node: NodeProcess) -> int:
    """What the system shows as its memory. Libraries count in each process, though they are there once."""
    return sum(process.memory_info().rss for process in _processes(node))


def own_bytes(node: NodeProcess) -> int:
    """What would be free if it ended."""
    return sum(process.memory_full_info().uss for process in _processes(node))


def loopback_bytes() -> int | None:
    """What this machine has said to itself so far, with TCP/IP headers; None where it does not count that."""
    counters = psutil.net_io_counters(pernic=True)
    return next((counters[name].bytes_sent for name in ("lo", "lo0") if name in counters), None)


def _processes(node: NodeProcess) -> list[psutil.Process]:
    return [psutil.Process(node.process.pid), *node.engines()]
