"""What the installed llama.cpp says of this machine's devices."""

from __future__ import annotations

import pytest

from node.engine.llama import library
from node.engine.wire import EngineParams
from node.models.demo_model import find_demo_model

pytestmark = pytest.mark.real


def test_each_device_tells_its_memory_and_without_a_gpu_no_layer_moves() -> None:
    devices = library.devices()
    assert devices
    assert all(0 < device.free_bytes <= device.total_bytes and device.name for device in devices)
    params = EngineParams(str(find_demo_model()))
    if not library.gpu_devices():
        assert library.gpu_layers(params) == 0
    else:
        # 30 of them and what follows; the demo model fits any GPU.
        assert library.gpu_layers(params) == 31
