"""Near misses of what people write and sources say: understood, or refused in the one way there is."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.sources import hugging_face, ollama
from node.sources.answers import next_url, read_body, refusal
from node.sources.errors import BadGallery, BadReference, SourceRefused, UnsuitableModel
from node.sources.gallery_index import parse_base, parse_index
from node.sources.gallery_install import base_location, files_to_install
from node.sources.gallery_source import GallerySource
from node.sources.reference import HuggingFaceReference, OllamaReference, parse_reference
from node.sources.source_settings import SourceSettings
from node.sources.web_url import WebUrl

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SETTINGS = SourceSettings()
URL = WebUrl.parse("https://me:hunter2@x.org/a?b")

BEGINNINGS = st.sampled_from(
    [
        "",
        "hf://",
        "hf:",
        "https://",
        "http://",
        "ollama://",
        "file://",
        "github:",
        "a@",
        "~",
        "https://huggingface.co/",
        "https://ollama.com/",
        "hf://org/repo",
        "ollama://box.lan/",
    ]
)
ENDS = st.text("hfolam:/@?#.-_ %gu[]\\Q4_K1289~\n\u00e4", max_size=30) | st.text(max_size=30)
KEYS = st.sampled_from(
    [
        "name",
        "files",
        "filename",
        "uri",
        "sha256",
        "overrides",
        "config_file",
        "url",
        "parameters",
        "model",
        "mmproj",
        "template",
        "tags",
        "layers",
        "mediaType",
        "digest",
        "size",
        "type",
        "path",
        "lfs",
        "oid",
        "stop",
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["m.gguf", "hf://a/b/c.gguf", "https://x/y.gguf", "a" * 64, "sha256:" + "a" * 64, "file"]
    )
    | st.sampled_from(["application/vnd.ollama.image.model", "m-00001-of-00002.gguf", "-00001-of-00001.gguf"])
)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=15,
)
ENTRIES = st.fixed_dictionaries(
    {"name": st.just("m")}, optional=dict.fromkeys(["files", "overrides", "config_file", "url"], DOCUMENTS)
)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "etag",
            "content-range",
            "content-length",
            "content-type",
            "content-encoding",
            "retry-after",
            "last-modified",
            "x-error-code",
            "x-linked-size",
            "x-linked-etag",
            "link",
        ]
    ),
    st.text(max_size=20) | st.sampled_from(["bytes 0-1/2", "bytes 0-1/*", "5", '"' + "a" * 64 + '"']),
)


@unhurried
@given(BEGINNINGS, ENDS)
def test_what_somebody_writes(beginning: str, end: str) -> None:
    with suppress(BadReference):
        GallerySource.parse(beginning + end)
    with suppress(BadReference):
        reference = parse_reference(beginning + end)
        if isinstance(reference, HuggingFaceReference | OllamaReference):
            assert parse_reference(reference.canonical) == reference
        if isinstance(reference, HuggingFaceReference):
            hugging_face.tree_locations(SETTINGS, reference)
            hugging_face.file_locations(SETTINGS, reference, reference.path or "m.gguf")
        if isinstance(reference, OllamaReference):
            ollama.manifest_locations(SETTINGS, reference)


@unhurried
@given(st.integers(100, 999), HEADERS, ENDS)
def test_what_a_server_answers(status: int, headers: dict[str, str], location: str) -> None:
    with suppress(SourceRefused):
        read_body(URL, status, headers, asked_from=0)
    with suppress(SourceRefused):
        next_url(URL, location)
    assert "hunter2" not in str(refusal(URL, status, headers, had_token=False))
    hugging_face.read_headers("m.gguf", headers)
    hugging_face.next_page(headers.get("link", ""))


@unhurried
@given(DOCUMENTS)
def test_what_an_api_says(document: Any) -> None:
    with suppress(SourceRefused, UnsuitableModel):
        ollama.read_manifest(document, reference=OllamaReference("tiny"))
    ollama.settings_of(document)
    with suppress(SourceRefused, UnsuitableModel):
        hugging_face.choose(hugging_face.read_tree(document), HuggingFaceReference("org/repo"))


@unhurried
@given(DOCUMENTS, ENTRIES)
def test_what_stands_in_a_gallery(document: Any, entry: Any) -> None:
    with suppress(BadGallery):
        parse_base(yaml.safe_dump(document).encode(), source="b.yaml")
    for index in (document, [document], [entry]):
        with suppress(BadGallery):
            for found in parse_index(yaml.safe_dump(index).encode(), gallery="home").entries:
                with suppress(UnsuitableModel, BadGallery):
                    files_to_install(found, found.base, SETTINGS, folder=None)
                with suppress(BadGallery):
                    base_location(found, index=URL)
