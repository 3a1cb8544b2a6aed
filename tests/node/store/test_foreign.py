from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from ledger.records import ModelName
from node.models.catalog import Catalog
from node.models.definition import ModelDefinition
from node.store.foreign import foreign_models
from node.store.store import Store
from node.store.usual_folders import models_folder

GGUF = struct.pack("<4sIQQ", b"GGUF", 3, 0, 0) + bytes(50)
REVISION = "0123456789abcdef0123456789abcdef01234567"
OLDER = "f" * 40


def found(folder: Path) -> dict[str, ModelDefinition]:
    definitions, warnings = foreign_models(folder, memory_bytes=2**30)
    assert warnings == []
    return {definition.name: definition for definition in definitions}


def gguf(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(GGUF + content)
    return path


@pytest.fixture
def unwritten(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nothing may change."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    yield folder
    after = {path: path.lstat().st_mtime_ns for path in (folder, *folder.rglob("*"))}
    assert after == dict.fromkeys(after, 10**18), "somebody wrote into another program's folder"


def left_alone(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        os.utime(path, ns=(10**18, 10**18), follow_symlinks=False)


def blob(store: Path, content: bytes) -> tuple[str, int]:
    """Put it into an Ollama store; its digest and its size."""
    digest = hashlib.sha256(content).hexdigest()
    (store / "blobs").mkdir(parents=True, exist_ok=True)
    (store / "blobs" / f"sha256-{digest}").write_bytes(content)
    return f"sha256:{digest}", len(content)


def ollama(store: Path, place: str, **layers: bytes | dict[str, Any]) -> Path:
    """A model in an Ollama store; returns its manifest."""
    listed = []
    for kind, content in layers.items():
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        digest, size = blob(store, data)
        listed.append({"mediaType": f"application/vnd.ollama.image.{kind}", "digest": digest, "size": size})
    path = store / "manifests" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"schemaVersion": 2, "layers": listed}))
    return path


def test_nested_folders_of_ggufs_are_read_in_place(unwritten: Path) -> None:
    tiny = gguf(unwritten / "publisher" / "repo" / "tiny.gguf")
    (unwritten / "publisher" / "repo" / "tiny.yaml").write_text("context_size: 512")
    parts = [gguf(unwritten / "publisher" / f"big-0000{part}-of-00002.gguf") for part in (1, 2)]
    gguf(unwritten / ".unfinished.gguf")
    gguf(unwritten / ".hidden" / "folder.gguf")
    left_alone(unwritten)
    models = found(unwritten)
    assert {name: model.parts for name, model in models.items()} == {"tiny": (tiny,), "big": tuple(parts)}
    assert models["tiny"].settings.context_size == 512


def test_a_projector_belongs_to_what_is_beside_it(unwritten: Path) -> None:
    gguf(unwritten / "seeing" / "Seeing-Q4_K_M.gguf")
    eye = gguf(unwritten / "seeing" / "mmproj-Seeing-f16.gguf")
    gguf(unwritten / "other" / "other.gguf")
    left_alone(unwritten)
    models = found(unwritten)
    assert {name: model.mmproj_path for name, model in models.items()} == {
        "Seeing-Q4_K_M": eye,
        "other": None,
    }


def test_a_folder_that_leads_back_ends(unwritten: Path) -> None:
    gguf(unwritten / "a" / "tiny.gguf")
    (unwritten / "a" / "again").symlink_to(unwritten)
    left_alone(unwritten)
    assert found(unwritten).keys() == {"tiny"}


def test_what_has_no_possible_name_is_left_out_with_a_word(tmp_path: Path) -> None:
    gguf(tmp_path / "fine.gguf")
    gguf(tmp_path / "not@fine.gguf")
    definitions, [warning] = foreign_models(tmp_path, memory_bytes=2**30)
    assert [definition.name for definition in definitions] == ["fine"]
    assert "not@fine" in warning


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert foreign_models(tmp_path / "none", memory_bytes=1) == ([], [f"there is no folder {tmp_path}/none"])


@pytest.mark.parametrize("main", [True, False])
def test_of_a_hugging_face_cache_the_current_revision_is_served(unwritten: Path, main: bool) -> None:
    repository = unwritten / "models--org--repo"
    content = GGUF + b"weights"
    sha256 = hashlib.sha256(content).hexdigest()
    (repository / "blobs").mkdir(parents=True)
    (repository / "blobs" / sha256).write_bytes(content)
    (repository / "blobs" / f"{sha256}.incomplete").write_bytes(content[:20])
    for revision in (OLDER, REVISION):
        (repository / "snapshots" / revision / "q4").mkdir(parents=True)
    link = repository / "snapshots" / REVISION / "q4" / "tiny-q4.gguf"
    link.symlink_to(Path("..") / ".." / ".." / "blobs" / sha256)
    gguf(repository / "snapshots" / OLDER / "former.gguf")
    if main:
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(REVISION)
    (unwritten / "datasets--org--data").mkdir()
    left_alone(unwritten)
    if not main:
        os.utime(repository / "snapshots" / REVISION, ns=(10**18 + 1, 10**18 + 1))
    models = found(unwritten)
    left_alone(unwritten)
    assert {name: (model.path, model.problem) for name, model in models.items()} == {"tiny-q4": (link, "")}


@pytest.mark.parametrize("main", ["../../../secret", "main", "", "é"])
def test_a_reference_that_is_no_revision_is_not_followed(tmp_path: Path, main: str) -> None:
    repository = tmp_path / "models--org--repo"
    gguf(repository / "snapshots" / REVISION / "tiny.gguf")
    gguf(tmp_path / "secret" / "secret.gguf")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(main)
    assert found(tmp_path).keys() == {"tiny"}


def test_an_ollama_store_is_served_under_the_names_it_has_there(unwritten: Path) -> None:
    params = {"temperature": 0.5, "top_k": 20, "num_ctx": 8192, "num_predict": -1, "stop": ["<|end|>"]}
    ollama(unwritten, "registry.ollama.ai/library/tiny/latest", model=GGUF, params=params)
    ollama(unwritten, "registry.ollama.ai/library/tiny/1b", model=GGUF, template=b"{{ .Prompt }}")
    ollama(unwritten, "registry.ollama.ai/me/mine/7b", model=GGUF + b"x", projector=GGUF + b"eye")
    ollama(unwritten, "hf.co/org/repo/Q4_K_M", model=GGUF)
    left_alone(unwritten)
    models = found(unwritten)
    assert models.keys() == {"tiny", "tiny:1b", "me/mine:7b", "hf.co/org/repo:Q4_K_M"}
    tiny, mine = models["tiny"], models["me/mine:7b"]
    digest = hashlib.sha256(GGUF).hexdigest()
    assert (tiny.path, tiny.expected_sha256) == (unwritten / "blobs" / f"sha256-{digest}", digest)
    assert (tiny.size_bytes, tiny.problem) == (len(GGUF), "")
    sampling = tiny.settings.sampling
    assert (sampling.temperature, sampling.top_k, tiny.settings.context_size) == (0.5, 20, 8192)
    assert (tiny.settings.stop, tiny.settings.max_tokens) == (("<|end|>",), None)
    assert mine.mmproj_path is not None
    assert mine.mmproj_path.read_bytes() == GGUF + b"eye"


def test_an_ollama_model_without_its_blob_says_so(tmp_path: Path) -> None:
    ollama(tmp_path, "registry.ollama.ai/library/tiny/latest", model=GGUF)
    [path] = (tmp_path / "blobs").iterdir()
    path.unlink()
    assert found(tmp_path)["tiny"].problem == f"there is no file {path}"


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "null", '{"layers": 5}', '{"layers": []}', "[" * 100_000, " " * 2**21),
        '{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:..", "size": 1}]}',
        '{"layers": [{"mediaType": "application/vnd.ollama.image.license", "digest": "x"}]}',
    ],
)
def test_an_ollama_manifest_that_is_none_is_left_out_with_a_word(tmp_path: Path, content: str) -> None:
    ollama(tmp_path, "registry.ollama.ai/library/fine/latest", model=GGUF)
    (tmp_path / "manifests" / "registry.ollama.ai" / "library" / "odd").mkdir()
    (tmp_path / "manifests" / "registry.ollama.ai" / "library" / "odd" / "latest").write_text(content)
    definitions, warnings = foreign_models(tmp_path, memory_bytes=2**30)
    assert [definition.name for definition in definitions] == ["fine"]
    assert len(warnings) == 1


def test_parameters_that_cannot_be_are_left_out_with_a_word(tmp_path: Path) -> None:
    ollama(tmp_path, "registry.ollama.ai/library/tiny/latest", model=GGUF, params={"top_p": 7})
    [definition] = found(tmp_path).values()
    assert definition.problem == ""
    assert definition.settings.sampling.top_p is None
    assert "top_p must be a number from 0 to 1" in definition.settings.warnings[0]


def test_the_home_s_own_models_come_first(tmp_path: Path) -> None:
    own = gguf(tmp_path / "home" / "tiny.gguf")
    theirs = gguf(tmp_path / "theirs" / "tiny.gguf")
    gguf(tmp_path / "theirs" / "other.gguf")
    catalog = Catalog(tmp_path / "home", memory_bytes=2**30)
    catalog.read(foreign=found(tmp_path / "theirs").values())
    assert {name: model.path.parent.name for name, model in catalog.definitions.items()} == {
        "tiny": "home",
        "other": "theirs",
    }
    assert catalog.warnings == (f"{theirs} is not served: {own} is called tiny already",)
    assert catalog.remove(ModelName("other")) == []
    assert (tmp_path / "theirs" / "other.gguf").exists()


def test_a_model_of_another_program_is_given_to_peers_from_where_it_is(
    unwritten: Path, tmp_path: Path
) -> None:
    ollama(unwritten, "registry.ollama.ai/library/tiny/latest", model=GGUF, projector=GGUF + b"eye")
    left_alone(unwritten)

    async def main() -> None:
        store = Store(hashes=tmp_path / "hashes", manifests=tmp_path / "manifests")
        identity = await store.identify(found(unwritten)["tiny"])
        assert [file.name for file in identity.manifest.files] == ["mmproj.gguf", "model.gguf"]
        assert await store.read(identity.manifest.files[1].key, 0) == GGUF

    trio.run(main)


@pytest.mark.parametrize(
    ("text", "environment", "folder"),
    [
        ("ollama", {}, "/me/.ollama/models"),
        ("ollama", {"OLLAMA_MODELS": "/big/ollama"}, "/big/ollama"),
        ("huggingface", {}, "/me/.cache/huggingface/hub"),
        ("huggingface", {"XDG_CACHE_HOME": "/cache"}, "/cache/huggingface/hub"),
        ("huggingface", {"HF_HOME": "/hf", "XDG_CACHE_HOME": "/cache"}, "/hf/hub"),
        ("huggingface", {"HF_HUB_CACHE": "/hub", "HF_HOME": "/hf"}, "/hub"),
        ("/data/models", {"OLLAMA_MODELS": "/big/ollama"}, "/data/models"),
    ],
)
def test_other_programs_folders_are_where_they_look_themselves(
    text: str, environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.store.usual_folders._OLLAMA_SERVICE", Path("/none"))
    assert models_folder(text, environment, Path("/me")) == Path(folder)


def test_ollama_installed_as_a_service_has_its_models_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.store.usual_folders._OLLAMA_SERVICE", tmp_path)
    assert models_folder("ollama", {}, Path("/me")) == tmp_path
