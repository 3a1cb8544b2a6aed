"""Memory of an engine's process: how much it takes, and how it is kept from taking more.

Two measures. Resident is what a person sees in other tools. Needed leaves out the pages of mapped
files, above all the weights: those the OS drops without writing anything when memory gets short,
and two engines of one file share them, so they never make a machine swap. Only Linux tells the two
apart cheaply; elsewhere a limit is about all that is resident (macOS), or committed (Windows).
"""

from __future__ import annotations

import sys

import psutil

_UNTOUCHED_MAX = 2**30
"""Bytes that a process may have asked for and never used: stacks of threads, spare room of allocators.
160 to 270 MB were measured with two threads, and each more takes 8."""


def resident_bytes(pid: int) -> int:
    """What `pid` has in memory; 0 when it has ended."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def needed_bytes(pid: int) -> int:
    """What of it is there for `pid` alone, and would have to be swapped; 0 when it has ended."""
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0
    needed = memory.rss
    if sys.platform == "linux":
        needed = memory.rss - memory.shared
    elif sys.platform == "win32":
        needed = memory.private
    return int(needed)


def in_gib(size_bytes: int) -> str:
    """For a person."""
    return f"{size_bytes / 2**30:.2f} GiB"


def limit_own_memory(size_bytes: int) -> None:
    """Let no request of this process for memory go far beyond `size_bytes`, where the OS can do that: Linux.

    It is measured once a second, in which a context can fill a machine. This refuses such a request,
    so that llama.cpp can say what it was for.
    """
    if sys.platform == "linux":
        import resource  # noqa: PLC0415 (there is none on Windows)

        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = size_bytes + _UNTOUCHED_MAX
        if most == resource.RLIM_INFINITY or wanted < most:
            # Of data, not of addresses: mapped weights are none, as when it is measured.
            resource.setrlimit(resource.RLIMIT_DATA, (wanted, wanted))
