"""A machine is described whatever it lacks, and a broken driver holds nobody up."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest

from node import hardware
from node.hardware import describe_machine, machine_names, memory_for_models, nvidia_names, vulkan_names


def test_a_machine_is_described_so_that_it_can_be_sent() -> None:
    machine = describe_machine()
    assert machine["cores"] >= 1
    assert machine["memory_bytes"] > 0
    assert machine["cpu"]
    assert msgpack.unpackb(msgpack.packb(machine)) == machine


def fake_nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A driver's tool that does what `body`, a line of Python, says."""
    script = folder / "nvidia-smi"
    script.write_text(f"#!{sys.executable}\n{body}\n")
    script.chmod(0o700)
    monkeypatch.setattr(shutil, "which", lambda _name: str(script))


def test_without_a_driver_there_is_no_gpu_of_nvidia(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert nvidia_names() == []


@pytest.mark.skipif(sys.platform == "win32", reason="a script is no program there")
def test_each_gpu_is_named_as_its_driver_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia_smi(tmp_path, monkeypatch, "print('RTX 4070 \\nRTX 3060\\n')")
    assert nvidia_names() == ["RTX 4070", "RTX 3060"]


@pytest.mark.skipif(sys.platform == "win32", reason="a script is no program there")
def test_a_driver_that_fails_is_told_from_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia_smi(tmp_path, monkeypatch, "raise SystemExit(9)")
    assert nvidia_names() is None


def test_a_driver_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, timeout: float, **__: object) -> None:
        raise subprocess.TimeoutExpired("nvidia-smi", timeout)

    monkeypatch.setattr(shutil, "which", lambda _name: "nvidia-smi")
    monkeypatch.setattr(subprocess, "run", hang)
    assert nvidia_names() is None


@pytest.mark.parametrize("name", ["desktop", "desktop.lan", "desktop.local"])
def test_a_machine_is_called_by_its_short_name_and_by_mdns(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    names = machine_names()
    assert {name, "desktop", "desktop.local"} == set(names)
    assert len(names) == len(set(names))


def test_a_machine_without_cpuinfo_has_a_name_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "Path", lambda _path: Path("/nowhere"))
    assert describe_machine()["cpu"]


@pytest.mark.parametrize(("usable", "models"), [(64, 51.2), (16, 12.8), (8, 6), (4, 2), (2, 1)])
def test_models_leave_room_for_what_else_runs_on_a_machine(usable: int, models: float) -> None:
    assert memory_for_models(usable * 2**30) == pytest.approx(models * 2**30, rel=1e-6)


def test_cards_that_only_vulkan_reaches_are_named_by_their_vendor(tmp_path: Path) -> None:
    for card, vendor in (("card0", "0x8086\n"), ("card1", "0x1af4\n"), ("card2", "0x1002\n")):
        (tmp_path / card / "device").mkdir(parents=True)
        (tmp_path / card / "device" / "vendor").write_text(vendor)
    assert vulkan_names(tmp_path) == ["AMD (Vulkan)", "Intel (Vulkan)"]
    assert vulkan_names(tmp_path / "none") == []
