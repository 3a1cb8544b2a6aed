"""Whatever ends a process, in the middle of whatever: what counts afterwards is right."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.store.hashing import ignore_progress
from node.store.partial_disk import PartialDisk, WantedFile
from tests.node.store.chunked_files import CHUNK, SomeFile

KILLS = 4
FILE = SomeFile(200)

WRITER = """
import sys
from pathlib import Path
from random import Random
from node.store import partial_disk
from tests.node.store.chunked_files import SomeFile, small_chunks

small_chunks(setattr)
partial_disk._SYNC_CHUNKS = 8
path, is_known, seed = Path(sys.argv[1]), sys.argv[2] == "known", int(sys.argv[3])
file = SomeFile(200)
disk = partial_disk.PartialDisk(path, file.wanted if is_known else file.unhashed, lambda _: None)
order = sorted(set(range(file.count)) - disk.there)
Random(seed).shuffle(order)
print("writing", flush=True)
for chunk in order:
    disk.write(chunk, [file.chunk(chunk)])
    print(chunk, flush=True)
print("closing", flush=True)
disk.close()
"""


def wanted(file: SomeFile, *, is_known: bool) -> WantedFile:
    return file.wanted if is_known else file.unhashed


def check(disk: PartialDisk, file: SomeFile, path: Path) -> None:
    """Nothing that counts is wrong."""
    data = path.with_name(f".{path.name}.partial").read_bytes()
    for chunk in disk.there:
        assert data[chunk * CHUNK : (chunk + 1) * CHUNK] == file.chunk(chunk)
        assert disk.hashes[32 * chunk : 32 * chunk + 32] == file.hashes[32 * chunk : 32 * chunk + 32]


def complete(disk: PartialDisk, file: SomeFile, path: Path) -> None:
    for chunk in set(range(file.count)) - disk.there:
        disk.write(chunk, [file.chunk(chunk)])
    hashes = disk.finish(file.sha256, ignore_progress)
    assert (hashes.sha256, hashes.chunks) == (file.sha256, file.hashes)
    assert path.read_bytes() == file.content


@pytest.mark.real
@pytest.mark.parametrize("knowledge", ["known", "unknown"])
def test_a_process_that_is_killed_loses_nothing_it_wrote(tmp_path: Path, knowledge: str) -> None:
    path, rng, is_known = tmp_path / "big.gguf", Random(7), knowledge == "known"
    root = Path(__file__).parents[3]
    said: set[int] = set()
    for seed in range(KILLS):
        command = [sys.executable, "-c", WRITER, str(path), knowledge, str(seed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "writing\n"
            for _ in range(rng.randrange(25)):
                said.add(int(process.stdout.readline()))
            process.send_signal(signal.SIGKILL)
            # What it had said before it heard of that.
            said.update(int(line) for line in process.stdout if line.strip().isdecimal())
            assert process.wait() == -signal.SIGKILL
        disk = PartialDisk(path, wanted(FILE, is_known=is_known), ignore_progress)
        check(disk, FILE, path)
        assert said <= disk.there
        disk._let_go(for_good=False)
    complete(PartialDisk(path, wanted(FILE, is_known=is_known), ignore_progress), FILE, path)


SMALL = SomeFile(12)


def power_cut(path: Path, rng: Random, before: dict[str, bytes]) -> None:
    """Of all that was written since `before`, the disk has some pages and not others, in no order."""
    for suffix in ("", ".map"):
        file = path.with_name(f".{path.name}.partial{suffix}")
        now = file.read_bytes()
        then = before.get(suffix, b"").ljust(len(now), b"\0")
        mixed = b"".join(rng.choice((now, then))[at : at + 512] for at in range(0, len(now), 512))
        keep = rng.choice((len(now), len(now), rng.randrange(len(now) + 1)))
        file.write_bytes(mixed[:keep])
        if rng.random() < 0.5:
            # The time of its change is one of the things that may not be on the disk yet.
            os.utime(file, ns=(1, 1))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), is_known=st.booleans(), cuts=st.integers(1, 4))
def test_after_a_power_cut_nothing_that_counts_is_wrong(seed: int, is_known: bool, cuts: int) -> None:
    rng = Random(seed)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "big.gguf"
        before: dict[str, bytes] = {}
        for _ in range(cuts):
            disk = PartialDisk(path, wanted(SMALL, is_known=is_known), ignore_progress)
            check(disk, SMALL, path)
            for chunk in rng.sample(range(SMALL.count), rng.randrange(SMALL.count)):
                disk.write(chunk, [SMALL.chunk(chunk)])
            if rng.random() < 0.3:
                disk.close()
            else:
                disk._let_go(for_good=False)
                power_cut(path, rng, before)
            before = {
                suffix: path.with_name(f".{path.name}.partial{suffix}").read_bytes()
                for suffix in ("", ".map")
            }
        disk = PartialDisk(path, wanted(SMALL, is_known=is_known), ignore_progress)
        check(disk, SMALL, path)
        complete(disk, SMALL, path)
