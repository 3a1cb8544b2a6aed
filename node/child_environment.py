"""What the processes that a node starts inherit of its environment: all but a node's settings.

Among those are secrets (the token, the API keys) that a child has no use for, and that anything it
loads could read. A child that is a node itself, in a demo, is told what it shall be.
"""

from __future__ import annotations

import os

SETTINGS_PREFIX = "LOCALAI_NODE_"


def child_environment() -> dict[str, str]:
    """Our environment without the settings of a node."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(SETTINGS_PREFIX)}
