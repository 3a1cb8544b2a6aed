"""What the installed llama.cpp says of this machine's devices, in a process of its own as always."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from node.models.demo_model import find_demo_model

pytestmark = pytest.mark.real

ASK = """
import json, sys
from dataclasses import asdict
from node.engine.llama.library import devices, gpu_layers
from node.engine.wire import EngineParams
print(json.dumps([[asdict(device) for device in devices()], gpu_layers(EngineParams(sys.argv[1]))]))
"""


def test_each_device_tells_its_memory_and_without_a_gpu_no_layer_moves() -> None:
    asked = subprocess.run(
        [sys.executable, "-c", ASK, str(find_demo_model())], capture_output=True, timeout=60, check=True
    )
    devices, layers = json.loads(asked.stdout)
    assert devices
    assert all(0 < device["free_bytes"] <= device["total_bytes"] and device["name"] for device in devices)
    # 30 layers and what follows them; the demo model fits any GPU.
    assert layers == (31 if any(device["is_gpu"] for device in devices) else 0)
