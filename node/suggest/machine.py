"""What a node of the swarm has for one more model, and how fast it ran those it has. Pure.

Of ourselves we know what models may take, and what they take now. Of others we know what they declared, and
what they loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ledger.records import ModelRecord
from ledger.view import NodeView
from node.hardware import declared_memory
from node.models.memory_estimate import guess_memory
from node.suggest.stated import parameters_of

_GPUS_MAX = 8
"""That a person is told of. What others say of themselves has any length."""
_GPU_NAME_MAX = 60


@dataclass(frozen=True, slots=True)
class Measured:
    """How fast one model ran on one machine."""

    model: str
    size_bytes: int
    speed: float
    """Tokens per second that one answer got, at the concurrency of late."""
    share: float = 1.0
    """Of its weights, that one token reads."""

    @property
    def read_bytes(self) -> float:
        """What one token reads: decoding waits for that, and for little else."""
        return self.size_bytes * self.share


@dataclass(frozen=True, slots=True)
class Machine:
    """One node that could run a model."""

    name: str
    budget_bytes: int
    """That all its models together may take; 0: nobody knows."""
    used_bytes: int = 0
    """Of that, by models in memory now."""
    is_self: bool = False
    is_running: bool = True
    """Its node; else what it has can be asked for once that does."""
    gpus: tuple[str, ...] = ()
    device_bytes: tuple[int, ...] | None = None
    """Free in each GPU with memory of its own; None: only the machine itself knows."""
    disk_bytes: int | None = None
    """Free for files; None: only the machine itself knows."""
    records: tuple[ModelRecord, ...] = ()
    """Of the models that it can be asked for."""
    measured: tuple[Measured, ...] = ()

    @property
    def free_bytes(self) -> int:
        """Of its budget, before any model has to make room."""
        return max(self.budget_bytes - self.used_bytes, 0)


def machine_of(node: NodeView, name: str) -> Machine | None:
    """What the swarm knows of `node`, called `name`; None: it is not there, or runs no models."""
    if node.state != "online" or node.role != "worker":
        return None
    own = tuple(record for record in node.models if not record.program)
    return Machine(
        name=name,
        budget_bytes=declared_memory(node.hardware),
        used_bytes=sum(
            guess_memory(record.size_bytes).total for record in own if record.state in ("loaded", "loading")
        ),
        gpus=_gpu_names(node.hardware),
        records=tuple(record for record in node.models if record.state in ("loaded", "loading", "cold")),
        measured=tuple(_measured(node, own)),
    )


def as_ourselves(
    machine: Machine,
    *,
    budget_bytes: int,
    used_bytes: int,
    device_bytes: tuple[int, ...],
    disk_bytes: int | None,
) -> Machine:
    """`machine`, which is our own, with what only we know of it."""
    return replace(
        machine,
        is_self=True,
        budget_bytes=budget_bytes,
        used_bytes=used_bytes,
        device_bytes=device_bytes,
        disk_bytes=disk_bytes,
    )


def _measured(node: NodeView, records: tuple[ModelRecord, ...]) -> list[Measured]:
    measured = []
    for record in records:
        load = node.loads.get(record.name)
        if load is not None and load.decode_speed > 0 and record.size_bytes > 0:
            parameters = parameters_of(record.name)
            share = parameters.share if parameters else 1.0
            measured.append(Measured(record.name, record.size_bytes, load.decode_speed, share))
    return measured


def _gpu_names(hardware: Mapping[str, Any]) -> tuple[str, ...]:
    said = hardware.get("gpu")
    if not isinstance(said, list | tuple):
        return ()
    return tuple(name[:_GPU_NAME_MAX] for name in said[:_GPUS_MAX] if isinstance(name, str))
