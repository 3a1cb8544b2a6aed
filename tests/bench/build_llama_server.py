"""llama.cpp's own server, built from the source inside the llama-cpp-python release that this project uses.

    python tests/bench/build_llama_server.py [--build-dir FOLDER]

So both sides of a comparison are the same llama.cpp, compiled by the same compiler with the same
options. It takes about eight minutes on two cores, once: what is built stays in the user's cache
folder. cmake and ninja come from PyPI into an environment of their own, next to the build.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import Final

import platformdirs

_OPTIONS: Final = (
    "-DCMAKE_BUILD_TYPE=Release",
    # As set-up builds the library.
    "-DGGML_RPC=ON",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    # A server on loopback needs neither TLS nor a web page, which it would download.
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
)


def default_build_dir() -> Path:
    """Where builds are kept, one for each release."""
    cache = platformdirs.user_cache_path("localai-node", appauthor=False)
    return cache / f"llama-server-{version('llama-cpp-python')}"


def build(folder: Path) -> Path:
    """The program, built in `folder` if it is not there yet.

    Raises:
      CalledProcessError: a step failed; its own words are on stderr.
    """
    server = folder / "build" / "bin" / f"llama-server{'.exe' * (os.name == 'nt')}"
    if not server.exists():
        folder.mkdir(parents=True, exist_ok=True)
        tools = _tools(folder / "tools")
        source = _source(folder / "source", tools)
        path = os.pathsep.join((str(tools.parent), os.environ.get("PATH", "")))
        for step in (
            ("-S", source, "-B", folder / "build", "-G", "Ninja", *_OPTIONS),
            ("--build", folder / "build", "--target", "llama-server", "-j", str(os.cpu_count() or 1)),
        ):
            subprocess.run(["cmake", *step], check=True, env={**os.environ, "PATH": path}, stdout=sys.stderr)
    return server


def _tools(folder: Path) -> Path:
    """The Python of an environment that has cmake and ninja."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    _pip(python, "install", "cmake", "ninja")
    return python


def _source(folder: Path, python: Path) -> Path:
    """The source of llama.cpp that the installed release carries."""
    release = f"llama-cpp-python=={version('llama-cpp-python')}"
    _pip(python, "download", "--no-deps", "--no-binary", "llama-cpp-python", "--dest", str(folder), release)
    [archive] = folder.glob("llama_cpp_python-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return archive.with_name(archive.name.removesuffix(".tar.gz")) / "vendor" / "llama.cpp"


def _pip(python: Path, *arguments: str) -> None:
    subprocess.run([python, "-m", "pip", "--quiet", *arguments], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build llama.cpp's server.")
    parser.add_argument("--build-dir", type=Path, default=default_build_dir())
    print(build(parser.parse_args().build_dir))
