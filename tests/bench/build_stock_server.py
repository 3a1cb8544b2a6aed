"""An environment that can run `python -m llama_cpp.server`: the packages it needs beside the library.

    python tests/bench/build_stock_server.py

The library itself is the one that is installed here: it must not be compiled twice, nor differ. The
environment stays in the user's cache folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path
from typing import Final

import platformdirs

_PACKAGES: Final = (
    "uvicorn",
    "fastapi",
    "pydantic-settings",
    "sse-starlette",
    "starlette-context<0.4",
    "PyYAML",
)
"""The extra `server` of llama-cpp-python."""


def default_build_dir() -> Path:
    """Where environments are kept, one for each release."""
    cache = platformdirs.user_cache_path("localai-node", appauthor=False)
    return cache / f"stock-server-{version('llama-cpp-python')}"


def build(folder: Path) -> Path:
    """The environment's Python, made in `folder` if it is not there yet.

    Raises:
      CalledProcessError: a step failed; its own words are on stderr.
    """
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    is_whole = folder / "is-whole"
    if not is_whole.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "--quiet", "install", *_PACKAGES], check=True, stdout=sys.stderr)
        # After its own packages, so that those come first.
        script = "import sysconfig; print(sysconfig.get_path('purelib'))"
        own = subprocess.run(
            [python, "-c", script], check=True, capture_output=True, text=True
        ).stdout.strip()
        Path(own, "installed-here.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
        is_whole.touch()
    return python


if __name__ == "__main__":
    print(build(default_build_dir()))
