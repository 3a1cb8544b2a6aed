"""What every test of the program starts from."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the settings that whoever runs the tests made for nodes of their own."""
    for name in list(os.environ):
        if name.startswith("LOCALAI_NODE_"):
            monkeypatch.delenv(name)
