"""Fit: whether a machine has the memory for a model of which the size alone is known. Pure.

What it takes is guessed (`memory_estimate.guess_memory`), as for a file whose header cannot be read. Where
the header is not known nobody can say how much of it a GPU would take: all or nothing.
"""

from __future__ import annotations

from node.engine.memory import in_gib
from node.models.gpu_layers import layers_that_fit
from node.models.memory_estimate import MemoryEstimate
from node.suggest.machine import Machine


def fits_gpu(need: MemoryEstimate, machine: Machine) -> bool:
    """Whether a GPU takes it whole."""
    on_gpu = need.total - need.process
    return bool(machine.device_bytes) and layers_that_fit([on_gpu], machine.device_bytes or (), 0) == 1


def lack_of_memory(need: MemoryEstimate, machine: Machine) -> str:
    """Why `machine` has too little for it, for a person, after its name; empty: it has enough."""
    if fits_gpu(need, machine):
        return ""
    if not machine.budget_bytes:
        return "does not say how much memory it has"
    if need.total > machine.budget_bytes:
        return f"has {in_gib(machine.budget_bytes)} for models"
    return ""
