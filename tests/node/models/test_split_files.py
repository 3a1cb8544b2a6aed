from __future__ import annotations

import struct
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.records import ModelName
from node.models.catalog import Catalog
from node.models.split_files import parse_part_name, parts_of

unhurried = settings(deadline=None)

GGUF = struct.pack("<4sIQQ", b"GGUF", 3, 0, 0) + bytes(50)
BIG = ModelName("big")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "models"
    folder.mkdir(parents=True)
    return folder


def split(folder: Path, *, count: int = 3, without: int = 0, stem: str = "big") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{stem}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]
    for number, path in enumerate(paths, 1):
        if number != without:
            path.write_bytes(GGUF + bytes(number))
    return paths


def read(folder: Path, *given: Path) -> Catalog:
    catalog = Catalog(folder, memory_bytes=2**30)
    catalog.read([str(path) for path in given])
    return catalog


def test_a_split_model_is_one_model(folder: Path) -> None:
    paths = split(folder)
    catalog = read(folder)
    [definition] = catalog.definitions.values()
    assert (definition.name, definition.problem) == ("big", "")
    assert definition.path == paths[0]
    assert definition.parts == tuple(paths)
    assert definition.size_bytes == 3 * len(GGUF) + 1 + 2 + 3
    assert catalog.warnings == ()


@pytest.mark.parametrize("without", [1, 2, 3])
def test_a_missing_part_is_named(folder: Path, without: int) -> None:
    paths = split(folder, without=without)
    [definition] = read(folder).definitions.values()
    assert definition.problem == f"part {without} of 3 is missing: there is no file {paths[without - 1]}"


def test_any_part_stands_for_the_whole(folder: Path, tmp_path: Path) -> None:
    paths = split(tmp_path / "disk")
    assert read(folder, paths[1]).definitions[BIG].path == paths[0]


@pytest.mark.parametrize("yaml_name", ["big.yaml", "big.yml", "big-00001-of-00003.yaml"])
def test_settings_are_found_beside_a_split_model(folder: Path, yaml_name: str) -> None:
    paths = split(folder)
    (folder / yaml_name).write_text("context_size: 512")
    [definition] = read(folder).definitions.values()
    assert (definition.name, definition.settings.context_size) == ("big", 512)
    assert definition.parts == tuple(paths)


@pytest.mark.parametrize("part", [1, 3])
def test_settings_may_name_any_part(folder: Path, part: int) -> None:
    paths = split(folder)
    (folder / "gpt.yaml").write_text(yaml.safe_dump({"parameters": {"model": paths[part - 1].name}}))
    [definition] = read(folder).definitions.values()
    assert (definition.name, definition.path) == ("gpt", paths[0])


@pytest.mark.parametrize("copy", [False, True])
def test_adding_a_split_model_keeps_all_of_it(folder: Path, tmp_path: Path, copy: bool) -> None:
    paths = split(tmp_path / "disk")
    (tmp_path / "disk" / "eye.gguf").write_bytes(GGUF)
    (tmp_path / "disk" / "big.yaml").write_text("mmproj: eye.gguf")
    added = read(folder).add(str(paths[0]), copy=copy)
    catalog = read(folder)
    assert catalog.definitions == {BIG: added}
    assert added.mmproj_path == (folder / "big.mmproj.gguf" if copy else tmp_path / "disk" / "eye.gguf")
    assert {part.parent for part in added.parts} == {folder if copy else tmp_path / "disk"}
    assert len(catalog.remove(BIG)) == (5 if copy else 1)
    assert list(folder.iterdir()) == []
    assert all(path.exists() for path in paths)


def test_a_projector_is_no_model_of_its_own(folder: Path) -> None:
    for name in ("seeing.gguf", "eye.gguf"):
        (folder / name).write_bytes(GGUF)
    (folder / "seeing.yaml").write_text("mmproj: eye.gguf")
    [definition] = read(folder).definitions.values()
    assert definition.files == (folder / "seeing.gguf", folder / "eye.gguf")


def test_a_model_without_its_projector_is_served_with_a_warning(folder: Path) -> None:
    (folder / "blind.gguf").write_bytes(GGUF)
    (folder / "blind.yaml").write_text("mmproj: eye.gguf")
    catalog = read(folder)
    [definition] = catalog.definitions.values()
    assert (definition.problem, definition.files) == ("", (folder / "blind.gguf",))
    assert "mmproj names eye.gguf, which is not there" in catalog.warnings[0]


@pytest.mark.parametrize(
    "name", ["a-00000-of-00003.gguf", "a-00004-of-00003.gguf", "a-1-of-3.gguf", "a-00001-of-99999.gguf"]
)
def test_what_only_looks_like_a_part_is_a_model_by_itself(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(GGUF)
    [definition] = read(folder).definitions.values()
    assert (definition.name, definition.parts) == (path.stem, (path,))


ONE = "".join(chr(0x660 + digit) for digit in (0, 0, 0, 0, 1))
"""Digits to Python, and to nobody who looks for a file."""


@pytest.mark.parametrize(
    "name",
    ["a-00001-OF-00002.gguf", f"a-{ONE}-of-{ONE}.gguf", "-00001-of-00002.gguf", "a-00001-of-01001.gguf"],
)
def test_a_part_is_called_as_llama_cpp_looks_for_it(name: str) -> None:
    assert parse_part_name(name) is None


def test_a_source_may_write_the_suffix_as_it_likes_and_llama_cpp_may_not() -> None:
    part = parse_part_name("q/a-00002-of-00002.GGUF")
    assert part is not None
    assert part.siblings == ("q/a-00001-of-00002.GGUF", "q/a-00002-of-00002.GGUF")
    assert parts_of(Path("a-00002-of-00002.GGUF")) == (Path("a-00002-of-00002.GGUF"),)


@unhurried
@given(st.text(min_size=1), st.integers(1, 1000), st.sampled_from(["", ".gguf", ".GGUF"]), st.data())
def test_every_part_knows_all_of_them(stem: str, count: int, suffix: str, data: st.DataObject) -> None:
    number = data.draw(st.integers(1, count))
    part = parse_part_name(f"{stem}-{number:05}-of-{count:05}{suffix}")
    assert part is not None
    assert (part.stem, part.number, part.count, part.suffix) == (stem, number, count, suffix)
    assert len(part.siblings) == count
    assert part.siblings[number - 1] == f"{stem}-{number:05}-of-{count:05}{suffix}"
    for name in (part.siblings[0], part.siblings[-1]):
        other = parse_part_name(name)
        assert other is not None
        assert other.siblings == part.siblings
