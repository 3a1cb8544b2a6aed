"""The process that renders templates, when nobody is left to stop it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from node.chat.render_wire import RENDER_FRAME_SIZE_MAX
from p2p.framing import encode_frame

pytestmark = pytest.mark.real

ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize("template", ["fine", ENDLESS], ids=["idle", "rendering"])
def test_it_ends_when_its_node_is_gone(template: str) -> None:
    request = encode_frame({"template": template, "values": {}}, RENDER_FRAME_SIZE_MAX)
    child = subprocess.run(
        [sys.executable, "-P", "-m", "node.chat.render_child"],
        input=request,  # and then the end, as when the node was killed
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert child.stdout.endswith(b"fine") == (template == "fine")
    killed = 1 if sys.platform == "win32" else -signal.SIGPROF
    assert child.returncode == (0 if template == "fine" else killed)
