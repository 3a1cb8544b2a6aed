"""`python -m node.engine.describe`: what the installed llama.cpp was built for, as JSON.

A process of its own, because a build for another CPU dies when it is loaded.
"""

from __future__ import annotations

import json
import sys

from node.engine.llama.library import describe_build

if __name__ == "__main__":
    json.dump(describe_build(), sys.stdout)
