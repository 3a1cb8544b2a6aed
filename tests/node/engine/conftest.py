"""The pretending model, for tests that need no process."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def echo_model() -> Callable[..., Any]:
    """`EchoModel`. Tests are no package, so it is run instead of imported."""
    model: Callable[..., Any] = runpy.run_path(str(Path(__file__).parent / "echo_child.py"))["EchoModel"]
    return model
