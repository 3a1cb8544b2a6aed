from __future__ import annotations

import struct
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.records import ModelName
from node.models.catalog import Catalog, file_stem
from node.models.demo_model import DEMO_CHAT_TEMPLATE
from node.models.errors import BadModelFile, BadModelName, CannotStoreModel, ModelNameTaken, UnknownModel
from node.models.model_name import MODEL_NAME_SIZE_MAX, parse_model_name
from p2p.blobs.file_name import check_file_name

unhurried = settings(deadline=None)

GGUF = struct.pack("<4sIQQ", b"GGUF", 3, 0, 0) + bytes(50)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "models"
    folder.mkdir(parents=True)
    return folder


def model(path: Path, settings: dict[str, object] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(GGUF)
    if settings is not None:
        path.with_suffix(".yaml").write_text(yaml.safe_dump(settings))
    return path


def read(folder: Path, *given: Path | str) -> Catalog:
    catalog = Catalog(folder, memory_bytes=2**30)
    catalog.read([str(item) for item in given])
    return catalog


def names(catalog: Catalog) -> list[str]:
    return sorted(catalog.definitions)


def test_a_folder_is_read_as_it_lies(folder: Path) -> None:
    model(folder / "plain.gguf")
    model(folder / "tuned.gguf", {"name": "renamed", "context_size": 512})
    model(folder / ".unfinished.gguf")
    (folder / "notes.txt").write_text("hello")
    catalog = read(folder)
    assert names(catalog) == ["plain", "renamed"]
    assert catalog.definitions[ModelName("renamed")].settings.context_size == 512
    assert catalog.definitions[ModelName("plain")].size_bytes == len(GGUF)
    assert catalog.warnings == ()


def test_one_file_serves_under_every_name_a_yaml_gives_it(folder: Path) -> None:
    model(folder / "tiny.gguf")
    for name in ("gpt-4", "gpt-3.5"):
        (folder / f"{name}.yaml").write_text(
            yaml.safe_dump({"name": name, "parameters": {"model": "tiny.gguf"}})
        )
    catalog = read(folder)
    assert names(catalog) == ["gpt-3.5", "gpt-4"]
    assert {definition.path for definition in catalog.definitions.values()} == {folder / "tiny.gguf"}


def test_a_yaml_about_another_file_says_nothing_of_its_neighbour(folder: Path) -> None:
    model(folder / "a.gguf", {"name": "b", "parameters": {"model": "b.gguf"}})
    model(folder / "b.gguf")
    catalog = read(folder)
    assert {name: definition.path.name for name, definition in catalog.definitions.items()} == {
        "a": "a.gguf",
        "b": "b.gguf",
    }


def test_files_with_a_problem_are_listed_with_it(folder: Path) -> None:
    (folder / "text.gguf").write_text("not a model")
    model(folder / "odd.gguf", {"context_size": "big"})
    catalog = read(folder, folder / "missing.gguf")
    problems = {name: definition.problem for name, definition in catalog.definitions.items()}
    assert "not a GGUF file" in problems[ModelName("text")]
    assert "context_size must be a whole number" in problems[ModelName("odd")]
    assert "there is no file" in problems[ModelName("missing")]


def test_a_yaml_that_names_a_file_which_is_not_there_is_named_too(folder: Path) -> None:
    (folder / "odd.yaml").write_text("parameters: {model: lost.gguf}")
    problem = read(folder, folder / "odd.yaml").definitions[ModelName("odd")].problem
    assert problem == f"there is no file {folder / 'lost.gguf'}, which {folder / 'odd.yaml'} names"


def test_of_two_with_one_name_the_given_one_is_served(folder: Path, tmp_path: Path) -> None:
    model(folder / "twin.gguf")
    elsewhere = model(tmp_path / "elsewhere" / "twin.gguf")
    catalog = read(folder, elsewhere)
    assert catalog.definitions[ModelName("twin")].path == elsewhere
    assert len(catalog.warnings) == 1
    assert "is not served" in catalog.warnings[0]


def test_a_given_file_that_lies_in_the_folder_is_one_model(folder: Path) -> None:
    path = model(folder / "m.gguf")
    catalog = read(folder, path)
    assert names(catalog) == ["m"]
    assert catalog.warnings == ()


def test_a_file_no_model_can_be_called_after_is_warned_of(folder: Path) -> None:
    model(folder / "a@b.gguf")
    catalog = read(folder)
    assert names(catalog) == []
    assert "a@b" in catalog.warnings[0]


@pytest.mark.parametrize("copy", [False, True])
def test_an_added_model_is_there_after_a_restart(folder: Path, tmp_path: Path, copy: bool) -> None:
    source = model(tmp_path / "disk" / "big.gguf", {"context_size": 256, "unheard_of": 1})
    catalog = read(folder)
    catalog.add(str(source), copy=copy)
    again = read(folder).definitions[ModelName("big")]
    assert again.path == (folder / "big.gguf" if copy else source)
    assert again.path.read_bytes() == GGUF
    assert again.settings.context_size == 256
    assert again == catalog.definitions[ModelName("big")]


def test_the_demo_model_can_be_added_by_its_short_name(folder: Path) -> None:
    definition = read(folder).add("demo")
    assert definition.name == "smollm2-135m-instruct"
    again = read(folder)
    assert again.definitions == {definition.name: definition}
    assert again.warnings == ()


def test_an_added_demo_model_keeps_the_template_we_give_it(folder: Path) -> None:
    assert read(folder).add("demo").settings.chat_template == DEMO_CHAT_TEMPLATE


@pytest.mark.parametrize("copy", [False, True])
def test_adding_a_model_again_finds_it_as_it_is_now(folder: Path, tmp_path: Path, copy: bool) -> None:
    source = model(tmp_path / "disk" / "big.gguf")
    catalog = read(folder)
    catalog.add(str(source), copy=copy)
    kept = folder / "big.gguf" if copy else source
    kept.unlink()
    catalog = read(folder)
    assert "there is no file" in catalog.definitions[ModelName("big")].problem
    model(kept)
    assert catalog.add(str(kept)).problem == ""
    assert catalog.definitions[ModelName("big")].problem == ""


def test_a_model_that_cannot_be_served_is_not_added(folder: Path, tmp_path: Path) -> None:
    catalog = read(folder)
    with pytest.raises(BadModelFile, match="there is no file"):
        catalog.add(str(tmp_path / "none.gguf"))
    assert list(folder.iterdir()) == []


def test_a_taken_name_is_refused(folder: Path, tmp_path: Path) -> None:
    model(folder / "m.gguf")
    catalog = read(folder)
    with pytest.raises(ModelNameTaken, match=r"m\.gguf is called m already"):
        catalog.add(str(model(tmp_path / "other" / "m.gguf")))
    (folder / "n.yaml").write_text("name: somebody else\n")
    with pytest.raises(CannotStoreModel, match="exists already"):
        catalog.add(str(model(tmp_path / "other" / "n.gguf")))


def test_a_full_disk_refuses_a_copy_and_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = model(tmp_path / "m.gguf")
    monkeypatch.setattr("node.models.catalog.DISK_RESERVE", 2**60)
    with pytest.raises(CannotStoreModel, match="bytes left"):
        read(folder).add(str(source), copy=True)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", [".hidden", "CON", "nul.v2", "a/b:7b", 'say "hi"?'])
def test_a_copy_has_a_name_that_every_system_takes(folder: Path, tmp_path: Path, name: str) -> None:
    source = model(tmp_path / "disk" / "any.gguf", {"name": name})
    assert read(folder).add(str(source), copy=True).name == name
    assert names(read(folder)) == [name]
    for path in folder.iterdir():
        check_file_name(path.name)


@unhurried
@given(st.text(max_size=MODEL_NAME_SIZE_MAX))
def test_the_files_of_every_model_may_be_called_so(text: str) -> None:
    try:
        name = parse_model_name(text)
    except BadModelName:
        return
    for suffix in (".gguf", "-00001-of-00002.gguf", ".mmproj.gguf", ".yaml"):
        check_file_name(file_stem(name) + suffix)


def test_removing_deletes_what_is_in_the_folder_only(folder: Path, tmp_path: Path) -> None:
    own = model(folder / "own.gguf", {})
    outside = model(tmp_path / "outside.gguf")
    catalog = read(folder)
    catalog.add(str(outside))
    assert catalog.remove(ModelName("own")) == [own.with_suffix(".yaml"), own]
    assert catalog.remove(ModelName("outside")) == [folder / "outside.yaml"]
    assert outside.exists()
    assert list(folder.iterdir()) == []
    assert names(catalog) == []
    with pytest.raises(UnknownModel):
        catalog.remove(ModelName("own"))


def test_a_link_in_the_folder_is_removed_and_its_target_is_not(folder: Path, tmp_path: Path) -> None:
    outside = model(tmp_path / "outside.gguf")
    (folder / "link.gguf").symlink_to(outside)
    read(folder).remove(ModelName("link"))
    assert outside.exists()
    assert list(folder.iterdir()) == []


def test_a_yaml_that_points_out_of_the_folder_cannot_delete_there(folder: Path, tmp_path: Path) -> None:
    outside = model(tmp_path / "home" / "precious.gguf")
    (folder / "m.yaml").write_text(yaml.safe_dump({"parameters": {"model": "../precious.gguf"}}))
    read(folder).remove(ModelName("m"))
    assert outside.exists()


def test_a_file_another_name_still_uses_stays(folder: Path) -> None:
    path = model(folder / "tiny.gguf")
    for name in ("one", "two"):
        (folder / f"{name}.yaml").write_text(
            yaml.safe_dump({"name": name, "parameters": {"model": "tiny.gguf"}})
        )
    catalog = read(folder)
    catalog.remove(ModelName("one"))
    assert path.exists()
    catalog.remove(ModelName("two"))
    assert not path.exists()


def test_a_file_nobody_could_be_told_of_is_left_out_with_a_warning(folder: Path) -> None:
    model(folder / "fine.gguf")
    catalog = read(folder, folder / "caf\udce9.gguf")
    assert names(catalog) == ["fine"]
    [warning] = catalog.warnings
    assert "not text in UTF-8" in warning
    assert warning.isprintable()
