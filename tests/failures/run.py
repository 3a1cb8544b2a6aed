"""The failure matrix: `make failure-matrix`, about half an hour.

    python tests/failures/run.py                    all groups, and docs/failure-matrix.md from them
    python tests/failures/run.py killed-0 stop      only these, printed
    python tests/failures/run.py --keep cells.json  keeps groups there, skips those in it: to go on later

It fails where an aim was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from tests.failures.cell import Cell
from tests.failures.page import page
from tests.failures.plan import GROUPS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "failure-matrix.md"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="*", metavar="|".join(GROUPS))
    parser.add_argument("--keep", type=Path, help="keep each group in this file, and skip those in it")
    arguments = parser.parse_args()
    chosen = arguments.groups or list(GROUPS)
    if unknown := sorted(set(chosen) - set(GROUPS)):
        parser.error(f"there is no group called {unknown[0]}")
    kept = _read(arguments.keep)
    for name in chosen:
        if name not in kept:
            kept[name] = _run(name)
            if arguments.keep:
                facts = {each: [asdict(cell) for cell in cells] for each, cells in kept.items()}
                arguments.keep.write_text(json.dumps(facts))
    cells = [cell for name in chosen for cell in kept[name]]
    absent = [name for name in chosen if not kept[name]]
    text = page(cells, _machine(), f"{datetime.now(UTC):%d %B %Y}", absent)
    print(text, end="")
    if chosen == list(GROUPS):
        PAGE.write_text(text, encoding="utf-8")
    return int(any(cell.misses_aim for cell in cells))


def _run(name: str) -> list[Cell]:
    cells = []
    with tempfile.TemporaryDirectory() as folder:
        for cell in GROUPS[name](Path(folder)):
            print(f"{name}: {cell}", file=sys.stderr, flush=True)
            cell.commit = _commit()
            cells.append(cell)
    return cells


def _read(path: Path | None) -> dict[str, list[Cell]]:
    if path is None or not path.exists():
        return {}
    return {name: [Cell(**fact) for fact in facts] for name, facts in json.loads(path.read_text()).items()}


def _machine() -> str:
    return f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _commit() -> str:
    asked = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
