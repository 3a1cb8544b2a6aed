"""A whole node whose engine is a stub: `python stub_node.py start --home ...`, as `python -m node`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from node import model_parts
from node.cli import main
from node.engine.engine import Engine, EngineConfig
from node.engine.wire import EngineParams

_CHILD = Path(__file__).with_name("stub_child.py")


def stub_engine(params: EngineParams, on_change: Callable[[], None], *, memory_max: int = 0) -> Engine:
    """What `node.served_model.make_engine` makes."""
    del memory_max
    return Engine(params, EngineConfig((sys.executable, str(_CHILD))), on_change)


if __name__ == "__main__":
    vars(model_parts)["make_engine"] = stub_engine
    sys.exit(main())
