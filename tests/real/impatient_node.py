"""A whole node that counts copies of those who are away as lost after seconds, not minutes.

python impatient_node.py start --home ...        as `python -m node`
"""

from __future__ import annotations

import sys
from functools import partial

from node import model_parts
from node.cli import main
from node.placement.absences import Absences

PATIENCE = 2.0
"""Seconds."""

if __name__ == "__main__":
    vars(model_parts)["Absences"] = partial(Absences, patience=PATIENCE)
    sys.exit(main())
