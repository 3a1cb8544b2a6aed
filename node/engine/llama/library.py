"""The library: weights out of a file, what it says when it fails, and how it was built."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

import psutil
from llama_cpp import llama_cpp
from llama_cpp._ggml import libggml as _ggml

from node.engine.errors import ModelNotLoadable
from node.engine.load_problem import load_problem
from node.engine.wire import EngineParams

SLOTS_MAX = 256
"""Of llama.cpp (LLAMA_MAX_SEQ)."""

_ERROR_LEVEL = 4
"""GGML_LOG_LEVEL_ERROR; `llama_cpp._logger` still counts from before DEBUG became 1."""

_GPU_TYPES = (1, 2)
"""GGML_BACKEND_DEVICE_TYPE_GPU and _IGPU."""

_VALUE_SIZE_MAX = 256
"""Bytes of a metadata value that is looked at: a number, or a short name."""


class ErrorLog:
    """The first error line of llama.cpp, which is the cause: later ones are its consequences."""

    def __init__(self) -> None:
        self._line = ""
        # Kept for ever: the library calls it until the process ends.
        self._callback = llama_cpp.llama_log_callback(self._on_line)
        llama_cpp.llama_log_set(self._callback, None)

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
    options.n_gpu_layers = params.gpu_layers
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


def metadata(weights: Any, key: str) -> str:  # noqa: ANN401 (a ctypes pointer)
    """A value of the file's metadata, as text; empty if there is none. `{arch}` is its architecture."""
    buffer = ctypes.create_string_buffer(_VALUE_SIZE_MAX)
    if "{arch}" in key:
        key = key.format(arch=metadata(weights, "general.architecture"))
    count = llama_cpp.llama_model_meta_val_str(weights, key.encode(), buffer, len(buffer))
    return buffer.value.decode(errors="replace") if count >= 0 else ""


def describe_build() -> dict[str, Any]:
    """What llama.cpp was built to compute with, and the GPUs it found.

    `llama_cpp` wraps none of these calls.
    """
    for function in (_ggml.ggml_backend_reg_get, _ggml.ggml_backend_dev_get):
        function.argtypes, function.restype = [ctypes.c_size_t], ctypes.c_void_p
    for function in (_ggml.ggml_backend_reg_name, _ggml.ggml_backend_dev_description):
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_char_p
    _ggml.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    backends = [_ggml.ggml_backend_reg_get(number) for number in range(_ggml.ggml_backend_reg_count())]
    devices = [_ggml.ggml_backend_dev_get(number) for number in range(_ggml.ggml_backend_dev_count())]
    gpus = [device for device in devices if _ggml.ggml_backend_dev_type(device) in _GPU_TYPES]
    return {
        "backends": [_ggml.ggml_backend_reg_name(backend).decode() for backend in backends],
        "gpus": [_ggml.ggml_backend_dev_description(gpu).decode() for gpu in gpus],
        "threads": physical_cores(),
    }


def physical_cores() -> int:
    """Hyperthreads share the units that do the work, so more threads than cores are slower."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or usable, usable))
