"""The library: weights out of a file, what it says when it fails, and how it was built."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from llama_cpp import llama_cpp
from llama_cpp._ggml import libggml as _ggml

from node.engine.errors import ModelNotLoadable
from node.engine.load_problem import load_problem
from node.engine.wire import EngineParams
from node.models.gguf_header import BadHeader, read_gguf_headers
from node.models.gpu_layers import layers_that_fit
from node.models.memory_estimate import estimate_memory, movable_parts
from node.models.split_files import parts_of

_GIB = 2**30

SLOTS_MAX = 256
"""Of llama.cpp (LLAMA_MAX_SEQ)."""

_ERROR_LEVEL = 4
"""GGML_LOG_LEVEL_ERROR; `llama_cpp._logger` still counts from before DEBUG became 1."""

_OWN_MEMORY_TYPE = 1
_GPU_TYPES = (_OWN_MEMORY_TYPE, 2)
"""GGML_BACKEND_DEVICE_TYPE_GPU and _IGPU."""

_VALUE_SIZE_MAX = 256
"""Bytes of a metadata value that is looked at: a number, or a short name."""


SELF_TEST_TOKENS = 16
"""In the first decode: a tile of AMX has as many rows. One token alone is multiplied by other instructions
than a prompt, and shows nothing of those."""

_CALLED_BACK: list[object] = []
"""What the library calls by its address until the process ends. One that is collected is a crash later."""


class ErrorLog:
    """The first error line of llama.cpp, which is the cause: later ones are its consequences."""

    def __init__(self) -> None:
        self._line = ""
        callback = llama_cpp.llama_log_callback(self._on_line)
        _CALLED_BACK.append(callback)
        llama_cpp.llama_log_set(callback, None)

    def _on_line(self, level: int, text: bytes, _user_data: object) -> None:
        if level == _ERROR_LEVEL and not self._line:
            self._line = text.decode(errors="replace").strip()

    def cause(self, otherwise: str) -> str:
        """Why it failed, for a person; `otherwise` where llama.cpp did not say."""
        return load_problem(self._line, otherwise) if self._line else otherwise


def load_weights(params: EngineParams, errors: ErrorLog, on_loading: Callable[[float], None]) -> Any:  # noqa: ANN401 (a ctypes pointer)
    """The weights in the file of `params`. `on_loading` hears, often, what fraction of them is read.

    Raises:
      ModelNotLoadable: the file is missing, damaged, unknown or too large; the text says which.
    """
    if not 0 < params.slots <= SLOTS_MAX:
        raise ModelNotLoadable(f"{params.slots} slots; 1 to {SLOTS_MAX} are possible")
    options = llama_cpp.llama_model_default_params()
    options.n_gpu_layers = gpu_layers(params)
    options.use_extra_bufts = params.use_extra_bufts
    # LLAMA_LOAD_MODE: none, mmap, mlock, both.
    options.load_mode = int(params.mmap) + 2 * int(params.mlock)

    def go_on(fraction: float, _user_data: object) -> bool:
        on_loading(fraction)
        return True

    # Kept in a variable while loading: the library calls it by its address alone.
    progress_callback = llama_cpp.llama_progress_callback(go_on)
    options.progress_callback = progress_callback
    model = llama_cpp.llama_model_load_from_file(os.fsencode(params.path), options)
    if not model:
        raise ModelNotLoadable(errors.cause("llama.cpp cannot load the file"))
    return model


def gpu_layers(params: EngineParams) -> int:
    """Those that were asked for, or as many as fit; -1: all."""
    if params.gpu_layers is not None:
        return params.gpu_layers
    free_bytes = [device.free_bytes for device in gpu_devices()]
    if not free_bytes:
        return 0
    parts = parts_of(Path(params.path))
    try:
        header, size_bytes = read_gguf_headers(parts), sum(part.stat().st_size for part in parts)
    except (BadHeader, OSError):
        return -1  # llama.cpp will say what is wrong with it.
    compute = estimate_memory(header, size_bytes, params).compute
    sizes = [part.size for part in movable_parts(header, params)]
    return layers_that_fit(sizes, free_bytes, compute)


def metadata(weights: Any, key: str) -> str:  # noqa: ANN401 (a ctypes pointer)
    """A value of the file's metadata, as text; empty if there is none. `{arch}` is its architecture."""
    buffer = ctypes.create_string_buffer(_VALUE_SIZE_MAX)
    if "{arch}" in key:
        key = key.format(arch=metadata(weights, "general.architecture"))
    count = llama_cpp.llama_model_meta_val_str(weights, key.encode(), buffer, len(buffer))
    return buffer.value.decode(errors="replace") if count >= 0 else ""


@dataclass(frozen=True, slots=True)
class Device:
    """Something that llama.cpp can compute with."""

    name: str
    is_gpu: bool
    has_own_memory: bool
    """What is there takes none of the machine's."""
    free_bytes: int
    total_bytes: int


def gpu_devices() -> list[Device]:
    """The GPUs that this build found and will use."""
    return [device for device in devices() if device.is_gpu]


def devices() -> list[Device]:
    """All that this build found, and what memory is free. `llama_cpp` wraps none of these calls."""
    _ggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    _ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    _ggml.ggml_backend_dev_description.argtypes = [ctypes.c_void_p]
    _ggml.ggml_backend_dev_description.restype = ctypes.c_char_p
    _ggml.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    _ggml.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, *[ctypes.POINTER(ctypes.c_size_t)] * 2]
    _ggml.ggml_backend_dev_memory.restype = None
    return [_device(_ggml.ggml_backend_dev_get(number)) for number in range(_ggml.ggml_backend_dev_count())]


def _device(handle: int) -> Device:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _ggml.ggml_backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
    name = _ggml.ggml_backend_dev_description(handle).decode(errors="replace")
    kind = _ggml.ggml_backend_dev_type(handle)
    # Metal calls its devices GPUs although they share the machine's memory.
    has_own_memory = kind == _OWN_MEMORY_TYPE and sys.platform != "darwin"
    return Device(name, kind in _GPU_TYPES, has_own_memory, free.value, total.value)


def describe_build() -> dict[str, Any]:
    """What llama.cpp was built to compute with, and the GPUs it found."""
    _ggml.ggml_backend_reg_get.argtypes = [ctypes.c_size_t]
    _ggml.ggml_backend_reg_get.restype = ctypes.c_void_p
    _ggml.ggml_backend_reg_name.argtypes = [ctypes.c_void_p]
    _ggml.ggml_backend_reg_name.restype = ctypes.c_char_p
    backends = [_ggml.ggml_backend_reg_get(number) for number in range(_ggml.ggml_backend_reg_count())]
    return {
        "backends": [_ggml.ggml_backend_reg_name(backend).decode() for backend in backends],
        "gpus": [
            f"{gpu.name}, {gpu.free_bytes / _GIB:.1f} of {gpu.total_bytes / _GIB:.1f} GiB free"
            for gpu in gpu_devices()
        ],
        "threads": physical_cores(),
        "device_free_bytes": [gpu.free_bytes for gpu in gpu_devices() if gpu.has_own_memory],
    }


def physical_cores() -> int:
    """Hyperthreads share the units that do the work, so more threads than cores are slower."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or usable, usable))
