from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.backend import Sampling
from ledger.records import ModelName
from node.models.definition import ModelDefinition
from node.models.errors import BadModelYaml
from node.models.model_yaml import ModelSettings, parse_model_yaml
from node.store.model_files import (
    canonical_names,
    home_name,
    manifest_file_of,
    require_model,
    settings_at_home,
    settings_file,
    weights_sha256,
)
from p2p.blobs.errors import BadManifest
from p2p.blobs.manifest import Manifest, ManifestFile, manifest_of

unhurried = settings(deadline=None)

ONE = ModelName("one")

numbers = st.none() | st.floats(0, 1)
SETTINGS = st.builds(
    ModelSettings,
    sampling=st.builds(
        Sampling,
        temperature=st.none() | st.floats(0, 100),
        top_k=st.none() | st.integers(0, 2**31 - 1),
        top_p=numbers,
        min_p=numbers,
        seed=st.none() | st.integers(0, 2**32 - 1),
    ),
    max_tokens=st.none() | st.integers(1, 2**31 - 1),
    stop=st.lists(st.text(st.characters(codec="utf-8"), min_size=1), max_size=4).map(tuple),
    context_size=st.none() | st.integers(1, 2**31 - 1),
    chat_template=st.none() | st.text(st.characters(codec="utf-8")).map(lambda text: "{{ messages }}" + text),
    tool_format=st.none() | st.just("hermes"),
)


def manifest(*names: str) -> Manifest:
    return manifest_of(manifest_file_of(name, name.encode()) for name in names)


def model(path: str, mmproj: str = "") -> ModelDefinition:
    return ModelDefinition(ONE, Path(path), mmproj_path=Path(mmproj) if mmproj else None)


def test_equal_models_have_equal_names() -> None:
    assert list(canonical_names(model("/m/Tiny.Q4_K_M.gguf", "/m/eye.gguf"))) == [
        ("model.gguf", Path("/m/Tiny.Q4_K_M.gguf")),
        ("mmproj.gguf", Path("/m/eye.gguf")),
    ]
    assert list(canonical_names(model("/m/Big-00001-of-00002.gguf"))) == [
        ("model-00001-of-00002.gguf", Path("/m/Big-00001-of-00002.gguf")),
        ("model-00002-of-00002.gguf", Path("/m/Big-00002-of-00002.gguf")),
    ]


def test_at_home_files_are_called_as_people_do() -> None:
    names = ("model.gguf", "model-00001-of-00002.gguf", "mmproj.gguf", "model.yaml")
    assert [home_name(name, "tiny") for name in names] == [
        *("tiny.gguf", "tiny-00001-of-00002.gguf", "tiny.mmproj.gguf", "tiny.yaml"),
    ]


@unhurried
@given(SETTINGS)
def test_settings_that_travel_come_home_as_they_were(settings: ModelSettings) -> None:
    shared = settings_file(settings)
    at_home = settings_at_home(shared, ONE, {"model.gguf": "one.gguf", "mmproj.gguf": "one.mmproj.gguf"})
    read = parse_model_yaml(at_home, source="test")
    assert read.warnings == ()
    assert read == replace(settings, name=ONE, file="one.gguf", mmproj="one.mmproj.gguf")
    assert settings_file(read) == shared, "so a fetched model has the manifest it was fetched by"


def test_how_a_machine_runs_a_model_stays_at_home() -> None:
    settings = ModelSettings(name=ONE, threads=4, gpu_layers=-1, mlock=True, pinned=True, f16=True)
    assert settings_file(settings) == b""


def test_settings_of_a_peer_name_no_file_of_ours() -> None:
    shared = yaml.safe_dump(
        {
            "name": "other",
            "mmproj": "/home/me/secret",
            "parameters": {"model": "/home/me/secret", "top_k": 5},
            "threads": 64,
        }
    ).encode()
    document = yaml.safe_load(settings_at_home(shared, ONE, {"model.gguf": "one.gguf"}))
    assert document == {"name": "one", "parameters": {"model": "one.gguf", "top_k": 5}}


def test_a_split_model_is_found_by_its_first_part() -> None:
    files = {f"model-0000{number}-of-00002.gguf": f"one-0000{number}-of-00002.gguf" for number in (2, 1)}
    assert parse_model_yaml(settings_at_home(b"", ONE, files), source="").file == "one-00001-of-00002.gguf"


def test_settings_that_cannot_be_understood_are_refused() -> None:
    with pytest.raises(BadModelYaml):
        settings_at_home(b"[", ONE, {"model.gguf": "one.gguf"})


@pytest.mark.parametrize(
    "names",
    [
        ("model.gguf",),
        ("model.gguf", "mmproj.gguf", "model.yaml"),
        ("model-00001-of-00002.gguf", "model-00002-of-00002.gguf"),
    ],
)
def test_the_files_of_a_model_are_one(names: tuple[str, ...]) -> None:
    require_model(manifest(*names))


@pytest.mark.parametrize(
    "names",
    [
        ("model.yaml",),
        ("mmproj.gguf",),
        ("other.gguf",),
        ("model.gguf", "README.md"),
        ("model.gguf", "model-00001-of-00002.gguf", "model-00002-of-00002.gguf"),
        ("model-00001-of-00002.gguf",),
        ("model-00001-of-00003.gguf", "model-00002-of-00003.gguf"),
        ("model-00001-of-00001.gguf",),
    ],
)
def test_half_a_model_or_something_else_is_none(names: tuple[str, ...]) -> None:
    with pytest.raises(BadManifest, match="not those of one model"):
        require_model(manifest(*names))


def test_settings_as_large_as_a_model_are_refused() -> None:
    weights = manifest_file_of("model.gguf", b"weights")
    with pytest.raises(BadManifest, match="settings take 65537 bytes"):
        require_model(manifest_of([weights, ManifestFile("model.yaml", 65537, "ab" * 32, bytes(32 * 17))]))


def test_weights_are_known_by_what_is_in_all_of_them() -> None:
    single = manifest("model.gguf", "mmproj.gguf", "model.yaml")
    assert weights_sha256(single) == hashlib.sha256(b"model.gguf").hexdigest()
    parts = ("model-00001-of-00002.gguf", "model-00002-of-00002.gguf")
    split = weights_sha256(manifest(*parts))
    assert split == weights_sha256(manifest(*parts, "model.yaml"))
    assert split not in {weights_sha256(manifest(part)) for part in parts}
