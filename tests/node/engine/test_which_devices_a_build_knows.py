"""No process is started to ask for devices where the build of llama.cpp knows none with memory of its own."""

from __future__ import annotations

import pytest

from node.engine.build import knows_own_memory


@pytest.mark.parametrize(
    ("libraries", "knows"),
    [
        (["libggml-base.so.0", "libggml-cpu.so", "libggml-rpc.so.0.25.3"], False),
        (["libggml-cpu.so", "libggml-cuda.so"], True),
        (["libggml-cpu.dylib", "libggml-blas.dylib", "libggml-metal.dylib"], False),
        (["ggml-base.dll", "ggml-cpu-haswell.dll"], False),
        (["ggml-cpu.dll", "ggml-vulkan.dll"], True),
        ([], False),
    ],
)
def test_what_a_build_knows_shows_in_its_libraries(libraries: list[str], knows: bool) -> None:
    assert knows_own_memory(libraries) is knows
