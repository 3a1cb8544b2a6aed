"""Indexes and base configs in LocalAI's format: theirs, broken ones, and bombs. No server."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ledger.records import ModelName
from node.models.model_yaml import parse_model_yaml
from node.models.yaml_writer import write_yaml
from node.sources.bounded_yaml import BadYaml, load_yaml_untrusted
from node.sources.errors import BadGallery, BadReference, UnsuitableModel
from node.sources.gallery_index import (
    BASE_SIZE_MAX,
    INDEX_SIZE_MAX,
    BaseConfig,
    GalleryEntry,
    GalleryFile,
    parse_base,
    parse_index,
)
from node.sources.gallery_install import base_location, files_to_install
from node.sources.gallery_source import GallerySource
from node.sources.model_settings import SETTINGS_SIZE_MAX, checked_settings, merge
from node.sources.source_files import SourceFiles
from node.sources.source_settings import LOCALAI_GALLERY, SourceSettings
from node.sources.web_url import WebUrl

SHA256 = "009aba717c09d4a35890c7d35eb59d54e1dba884c7c526e7197d9c13ab5911d9"
INDEX = f"""---
- &phi4
  url: "github:mudler/LocalAI/gallery/phi-4-chat.yaml@master"
  name: "phi-4"
  license: mit
  icon: https://example.com/phi.png
  tags:
    - llm
    - gguf
  urls:
    - https://huggingface.co/microsoft/phi-4
  description: |
    phi-4 is built upon a blend of data.
    It has 14B parameters.
  overrides:
    parameters:
      model: phi-4-Q4_K_M.gguf
  files:
    - filename: phi-4-Q4_K_M.gguf
      uri: huggingface://bartowski/phi-4-GGUF/phi-4-Q4_K_M.gguf
      sha256: {SHA256}
- !!merge <<: *phi4
  name: "phi-4-fcall"
  overrides:
    mmproj: mmproj/fcall-F16.gguf
    parameters:
      model: llama-cpp/models/fcall.gguf
  files:
    - filename: llama-cpp/models/fcall.gguf
      sha256: {SHA256.upper()}
      uri: https://example.com/fcall.gguf
    - filename: mmproj/fcall-F16.gguf
      uri: huggingface://org/fcall-GGUF/mmproj-F16.gguf
""".encode()
BASE = b"""---
name: "chatml"
config_file: |
  mmap: true
  context_size: 4096
  f16: true
  parameters:
    temperature: 0.7
    top_k: 40
  stopwords:
  - '<|im_end|>'
  - '</s>'
  template:
    chat: |
      {{.Input -}}
      <|im_start|>assistant
"""


def entry(**fields: object) -> GalleryEntry:
    """An entry with one model, and what else `fields` say."""
    model = {
        "name": "m",
        "files": [{"filename": "m.gguf", "uri": "hf://o/r/m.gguf", "sha256": SHA256}],
        **fields,
    }
    (found,) = parse_index(yaml.safe_dump([model]).encode(), gallery="home").entries
    return found


def install(entry: GalleryEntry, base: BaseConfig | None = None, **more: object) -> SourceFiles:
    arguments = {"folder": None, **more}
    return files_to_install(entry, base or entry.base, SourceSettings(), **arguments)  # type: ignore[arg-type]


def test_an_index_as_localai_writes_it_is_understood() -> None:
    index = parse_index(INDEX, gallery="localai")
    first, second = index.entries
    assert index.warnings == []
    assert (first.id, first.license, first.tags) == ("localai@phi-4", "mit", ("llm", "gguf"))
    assert first.description.endswith("14B parameters.")
    assert first.base_url == "github:mudler/LocalAI/gallery/phi-4-chat.yaml@master"
    assert first.files == (
        GalleryFile("phi-4-Q4_K_M.gguf", "huggingface://bartowski/phi-4-GGUF/phi-4-Q4_K_M.gguf", SHA256),
    )
    # What it does not say is as in the one it is merged with; what it says takes its place.
    assert (second.name, second.license, second.base_url) == ("phi-4-fcall", "mit", first.base_url)
    assert second.files[0].sha256 == SHA256


def test_settings_are_the_base_with_the_overrides_laid_over_it() -> None:
    first = parse_index(INDEX, gallery="localai").entries[0]
    found = install(first, parse_base(BASE, source="chatml.yaml"), overrides={"parameters": {"top_k": 20}})
    assert found.name == "phi-4"
    assert (found.license, found.warnings) == ("mit", ())
    settings = parse_model_yaml(write_yaml(found.settings), source="phi-4")
    assert settings.name == "phi-4"
    assert settings.file == "", "it would name a file as the gallery calls it"
    assert (settings.sampling.temperature, settings.sampling.top_k) == (0.7, 20)
    assert (settings.context_size, settings.mmap, settings.stop) == (4096, True, ("<|im_end|>", "</s>"))
    (file,) = found.files
    assert (file.name, file.sha256, file.key) == ("model.gguf", SHA256, SHA256)
    assert file.canonical == "hf://bartowski/phi-4-GGUF/phi-4-Q4_K_M.gguf"
    assert str(file.locations[0].url) == (
        "https://huggingface.co/bartowski/phi-4-GGUF/resolve/main/phi-4-Q4_K_M.gguf"
    )


def test_a_projector_comes_along() -> None:
    found = install(parse_index(INDEX, gallery="localai").entries[1], BaseConfig({}))
    assert [file.name for file in found.files] == ["model.gguf", "mmproj.gguf"]
    assert found.files[0].canonical == "https://example.com/fcall.gguf"
    assert found.files[1].key.startswith("source:"), "nobody says its hash"
    assert "mmproj" not in found.settings


def test_a_model_in_parts_comes_whole() -> None:
    names = [f"big-0000{n}-of-00003.gguf" for n in (2, 1, 3)]
    files = [{"filename": name, "uri": f"hf://o/r/{name}"} for name in names]
    found = install(entry(files=files, overrides={"parameters": {"model": names[1]}}))
    assert [file.name for file in found.files] == [f"model-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    assert [file.canonical for file in found.files] == [f"hf://o/r/{name}" for name in sorted(names)]
    # Without a word on which file it is, it is the only model there.
    assert install(entry(files=files)).files == found.files
    with pytest.raises(UnsuitableModel, match="has 3 parts, and part 3 is not there"):
        install(entry(files=files[:2]))


def test_settings_name_no_files() -> None:
    assert checked_settings({}, source="m") == {}
    assert checked_settings({"parameters": {"model": "x.gguf"}, "mmproj": "y.gguf"}, source="m") == {}


def test_settings_that_would_not_fit_a_models_file_are_refused_before_anything_comes() -> None:
    with pytest.raises(UnsuitableModel, match=f"{SETTINGS_SIZE_MAX} are allowed"):
        install(entry(overrides={"template": {"chat": "x" * SETTINGS_SIZE_MAX}}))


def test_another_name_and_other_files_can_be_wished_for() -> None:
    extra = GalleryFile("draft.gguf", "https://example.com/draft.gguf")
    found = install(
        entry(overrides={"parameters": {"model": "m.gguf"}}), name=ModelName("mine"), files=[extra]
    )
    assert found.name == "mine"
    assert found.settings["name"] == "mine"
    assert found.warnings == ("home@m: 'draft.gguf' has no use here and is left out",)


def test_a_model_may_be_named_by_its_address_in_the_settings() -> None:
    config = {"parameters": {"model": "huggingface://o/r/x.gguf"}}
    found = install(entry(files=[], config_file=config))
    assert found.files[0].canonical == "hf://o/r/x.gguf"


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, {"a": {"b": 1, "c": 3}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": [1]}, {"a": []}, {"a": []}),
        ({"a": True}, {"a": False}, {"a": False}),
        ({"a": {"b": 1}}, {"a": {}}, {"a": {"b": 1}}),
        ({"a": {"b": 1}}, {"a": None}, {"a": None}),
        ({"a": 1}, {"a": {"b": 2}}, {"a": {"b": 2}}),
        ({"a": {"b": 1}}, {"a": 2}, {"a": 2}),
    ],
)
def test_settings_are_merged_as_localai_does(base: dict, over: dict, merged: dict) -> None:  # type: ignore[type-arg]
    before = str(base), str(over)
    assert merge(base, over) == merged
    assert (str(base), str(over)) == before


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"config_file": {"backend": "whisper"}}, UnsuitableModel, "this program has llama-cpp only"),
        ({"overrides": {"threads": "many"}}, UnsuitableModel, "threads must be a whole number"),
        ({"overrides": {"parameters": {"model": "n.gguf"}}}, BadGallery, "needs 'n.gguf' and does not say"),
        ({"overrides": {"mmproj": "p.gguf"}}, BadGallery, "needs 'p.gguf' and does not say"),
        ({"files": []}, UnsuitableModel, "which of its 0 GGUF files"),
        ({"name": "x" * 150}, UnsuitableModel, "another name with --name"),
        (
            {"files": [{"filename": "m.gguf", "uri": "file:///etc/passwd"}]},
            BadGallery,
            "a file of this machine",
        ),
        (
            {"files": [{"filename": "m.gguf", "uri": "/etc/passwd.gguf"}]},
            BadGallery,
            "a file of this machine",
        ),
        (
            {"files": [{"filename": "m.gguf", "uri": "oci://x/y"}]},
            UnsuitableModel,
            "oci:// is not known here",
        ),
        ({"files": [{"filename": "m.gguf", "uri": "ollama://x"}]}, UnsuitableModel, "not that of a file"),
        ({"files": [{"filename": "m.gguf", "uri": "hf://o/r"}]}, UnsuitableModel, "not that of a file"),
    ],
)
def test_what_cannot_be_installed_is_said(
    fields: dict[str, object], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        install(entry(**fields))


def test_a_gallery_on_this_machine_may_name_files_of_it() -> None:
    for uri in ("/data/g/m.gguf", "file:///data/g/m.gguf", "m.gguf", "./m.gguf"):
        found = install(entry(files=[{"filename": "m.gguf", "uri": uri}]), folder=LOCAL.parent)
        assert (found.files[0].path, found.files[0].locations) == (LOCAL.parent / "m.gguf", ())


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("text", "it is not a map"),
        ({"name": ""}, "it has no name"),
        ({"name": "a@b"}, "or one with '@'"),
        ({"name": ["m"]}, "its name must be text"),
        ({"name": "n" * 201}, "at most 200 characters"),
        ({"name": "a\nb"}, "one line"),
        ({"name": "m", "overrides": [1]}, "its overrides must be a map"),
        ({"name": "m", "config_file": "- 1"}, "config_file must be a map"),
        ({"name": "m", "config_file": "a: ["}, "config_file cannot be read"),
        ({"name": "m", "files": {"a": 1}}, "files must be a list of maps"),
        ({"name": "m", "files": [1]}, "files must be a list of maps"),
        ({"name": "m", "files": [{"filename": "x"}]}, "no filename or no uri"),
        ({"name": "m", "files": [{"filename": "x", "uri": "y", "sha256": "abc"}]}, "64 hexadecimal digits"),
        ({"name": "m", "files": [{"filename": "x", "uri": "y"}] * 257}, "257 files"),
    ],
)
def test_a_mistake_costs_one_model_and_not_the_gallery(item: object, words: str) -> None:
    content = yaml.safe_dump([item, {"name": "good", "tags": "not a list"}]).encode()
    index = parse_index(content, gallery="home")
    assert [each.name for each in index.entries] == ["good"]
    assert index.warnings[0].startswith("gallery 'home': model 1 ")
    assert words in index.warnings[0]
    with pytest.raises(BadGallery, match="model 1"):
        parse_index(yaml.safe_dump([item]).encode(), gallery="home")


def test_many_mistakes_are_summed_up() -> None:
    content = yaml.safe_dump([1] * 100 + [{"name": "good"}]).encode()
    warnings = parse_index(content, gallery="home").warnings
    assert len(warnings) == 21
    assert "80 more" in warnings[-1]


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


BILLION = b"a: &a [1,1,1,1,1,1,1,1,1,1]\n" + b"".join(
    b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 10)) for n in range(9)
)
MERGES = b"- &a {k0: 1, k1: 1, k2: 1}\n" + b"".join(
    b"- &%c\n  <<: [%s]\n" % (98 + n, b",".join([b"*%c" % (97 + n)] * 10)) for n in range(9)
)
CHAIN = b"a0: &a0 [1]\n" + b"".join(b"a%d: &a%d [*a%d]\n" % (n, n, n - 1) for n in range(1, 3000))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (BILLION, "becomes more than"),
        (MERGES, "becomes more than"),
        (b"&a [*a]", "contains it"),
        (b"&a {b: *a}", "contains it"),
        (CHAIN, "within each other"),
        (nested(51), "within each other"),
        # This many ended the process that read them with libyaml.
        (nested(500_000), "within each other"),
        (b"- " * 100_000, "within each other"),
        (b"a: " + b"1:" * 100_000 + b"1", "a number of more than 64 digits"),
        (b"a: " + b"9" * 100_000, "a number of more than 64 digits"),
        # These become gigabytes, and those take hours: Python's hash of each is 0.
        (b"a: &a " + b"x" * 30_000 + b"\nb: [" + b"*a," * 6000 + b"]", "becomes more than"),
        (b"".join(b"%d: 1\n" % ((2**61 - 1) * n) for n in range(5, 40_000)), "a key that is a number"),
        (b"a: 2026-13-45", "month"),
        (b"a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        (b"a: [", "while parsing"),
        (b"a: 1\n---\nb: 2", "single document"),
        (b"\x00", "special characters|control characters"),
    ],
    ids=lambda value: str(value[:20]),
)
def test_yaml_that_would_blow_up_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(BadYaml, match=words):
        load_yaml_untrusted(content, values_max=100_000)
    with pytest.raises(BadGallery, match="the index of gallery 'home' cannot be read"):
        parse_index(content, gallery="home")


@pytest.mark.parametrize(
    "content", [b"", b"a: 1", b"[]", b"<html><body>login</body></html>", b"text", b"- 1"]
)
def test_what_is_no_index_is_not_taken_for_an_empty_one(content: bytes) -> None:
    with pytest.raises(BadGallery, match="'home'"):
        parse_index(content, gallery="home")


def test_what_is_too_large_is_not_looked_at() -> None:
    with pytest.raises(BadGallery, match=f"larger than {INDEX_SIZE_MAX} bytes"):
        parse_index(b" " * (INDEX_SIZE_MAX + 1), gallery="home")
    with pytest.raises(BadGallery, match=f"larger than {BASE_SIZE_MAX} bytes"):
        parse_base(b" " * (BASE_SIZE_MAX + 1), source="x")
    with pytest.raises(BadGallery, match="20001 models"):
        parse_index(b"- {name: m}\n" * 20_001, gallery="home")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"- 1", "not a map"), (b"config_file: [1]", "must be a map"), (b"files: 1", "files must be a list")],
)
def test_what_is_no_base_config_is_said(content: bytes, words: str) -> None:
    with pytest.raises(BadGallery, match=words):
        parse_base(content, source="chatml.yaml")


WEB = WebUrl.parse("https://me:hunter2@models.lan/g/index.yaml?key=s3cret")
LOCAL = Path("/data/g/index.yaml")


@pytest.mark.parametrize(
    ("url", "index", "place"),
    [
        ("base/x.yaml", WEB, "https://models.lan/g/base/x.yaml"),
        ("base/x.yaml", LOCAL, "/data/g/base/x.yaml"),
        ("https://x.org/y.yaml", LOCAL, "https://x.org/y.yaml"),
        ("github:a/b/g/c.yaml@v1", WEB, "https://raw.githubusercontent.com/a/b/v1/g/c.yaml"),
        ("file:///data/x.yaml", LOCAL, "/data/x.yaml"),
    ],
)
def test_a_base_config_is_where_its_entry_says(url: str, index: WebUrl | Path, place: str) -> None:
    found = base_location(entry(url=url), index=index)
    assert str(found) == place
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    ("url", "index"),
    [
        ("file:///etc/passwd", WEB),
        ("../x.yaml", WEB),
        ("../x.yaml", LOCAL),
        ("/etc/x.yaml", LOCAL),
        ("C:x.yaml", LOCAL),
        ("oci://x/y", WEB),
        ("github:a", WEB),
        ("hf://o/r", WEB),
    ],
)
def test_a_base_config_is_nowhere_else(url: str, index: WebUrl | Path) -> None:
    with pytest.raises(BadGallery, match="home@m"):
        base_location(entry(url=url), index=index)


@pytest.mark.parametrize(
    ("text", "name", "index"),
    [
        (
            LOCALAI_GALLERY,
            "localai",
            "https://raw.githubusercontent.com/mudler/LocalAI/master/gallery/index.yaml",
        ),
        ("home=https://models.lan/index.yaml?k=1", "home", "https://models.lan/index.yaml"),
        ("https://models.lan/tiny.yaml", "tiny", "https://models.lan/tiny.yaml"),
        ("/data/gallery/index.yaml", "gallery", "/data/gallery/index.yaml"),
        ("a=/data/index.yaml", "a", "/data/index.yaml"),
    ],
)
def test_a_gallery_has_a_name_and_a_place(text: str, name: str, index: str) -> None:
    source = GallerySource.parse(text)
    assert (source.name, str(source.index)) == (name, index)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "home",
        "home=",
        "~no-such-user/x.yaml",
        "home=hf://o/r",
        "https://x.org/",
        "a b=https://x.org/y.yaml",
    ],
)
def test_what_is_no_gallery_is_said(text: str) -> None:
    with pytest.raises(BadReference):
        GallerySource.parse(text)
