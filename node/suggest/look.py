"""Looks at the machines: at our own, and through the swarm's view at those of others."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

import psutil
import trio

from ledger.records import ModelRecord
from ledger.view import NodeView
from node.engine.build import free_device_bytes
from node.engine.memory import in_gib
from node.hardware import gpu_names, memory_for_models, usable_memory
from node.home import Home
from node.models.catalog import DISK_RESERVE, Catalog
from node.models.memory_estimate import guess_memory
from node.status_table import node_names
from node.suggest.fit import lack_of_memory
from node.suggest.machine import Machine, as_ourselves, machine_of
from node.worker import Worker
from p2p.peer import PeerId


async def look_at_swarm(
    nodes: Sequence[NodeView], me: PeerId, worker: Worker | None, folder: Path
) -> list[Machine]:
    """Every machine of `nodes` that runs models. `worker`: what runs ours, None: nothing does. `folder`:
    where ours are kept."""
    names = node_names([{"id": node.peer, "name": node.name} for node in nodes])
    machines = []
    for node in nodes:
        machine = machine_of(node, names[node.peer])
        if machine is None or (node.peer == me and worker is None):
            continue
        if node.peer == me and worker is not None:
            monitor = worker.monitor()
            machine = as_ourselves(
                machine,
                budget_bytes=monitor["budget_bytes"],
                used_bytes=monitor["used_bytes"],
                device_bytes=tuple(await trio.to_thread.run_sync(free_device_bytes)),
                disk_bytes=await trio.to_thread.run_sync(_disk_left, folder),
            )
        machines.append(machine)
    return machines


async def lack_of_memory_here(worker: Worker, size_bytes: int) -> str:
    """Why `worker` would hardly load a model of `size_bytes`, for a person; empty: it has the memory."""
    need, budget_bytes = guess_memory(size_bytes), worker.monitor()["budget_bytes"]
    if need.total <= budget_bytes:
        return ""  # The GPUs, which may take a second, need not be looked at.
    device_bytes = tuple(await trio.to_thread.run_sync(free_device_bytes))
    lack = lack_of_memory(need, Machine("this node", budget_bytes, device_bytes=device_bytes))
    return lack and (
        f"it takes about {in_gib(need.total)} of memory, as far as its size tells, and this node {lack}"
        " (--memory): it may never be loaded here"
    )


async def look_here(home: Home) -> list[Machine]:
    """This machine alone, while no node runs in `home`."""
    return [await trio.to_thread.run_sync(_this_machine, home)]


def _this_machine(home: Home) -> Machine:
    catalog = Catalog(home.models, memory_bytes=psutil.virtual_memory().total)
    catalog.read()
    return Machine(
        name=socket.gethostname(),
        budget_bytes=memory_for_models(usable_memory()),
        is_self=True,
        is_running=False,
        gpus=tuple(gpu_names()),
        device_bytes=tuple(free_device_bytes()),
        disk_bytes=_disk_left(home.models),
        records=tuple(
            ModelRecord(
                definition.name, "cold", size_bytes=definition.size_bytes, sha256=definition.expected_sha256
            )
            for definition in catalog.definitions.values()
            if not definition.problem
        ),
    )


def _disk_left(folder: Path) -> int | None:
    """Bytes for models on the disk of `folder`, which need not be there yet; None: it does not say."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), None)
    if there is None:
        return None
    try:
        return max(shutil.disk_usage(there).free - DISK_RESERVE, 0)
    except OSError:
        return None
