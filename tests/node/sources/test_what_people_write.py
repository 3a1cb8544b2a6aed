"""References: what is understood, and what is said of what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.errors import WrongUse
from node.sources.errors import BadReference
from node.sources.reference import (
    DemoReference,
    FileReference,
    GalleryReference,
    HuggingFaceReference,
    OllamaReference,
    Reference,
    UrlReference,
    parse_reference,
)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("qwen3-4b", GalleryReference("qwen3-4b")),
        ("llama-3.2-1b-instruct:q4_k_m", GalleryReference("llama-3.2-1b-instruct:q4_k_m")),
        ("home@qwen3-4b", GalleryReference("qwen3-4b", "home")),
        ("demo", DemoReference()),
        ("demo2", GalleryReference("demo2")),
        ("./demo", FileReference(Path("./demo"))),
        ("tiny.gguf", FileReference(Path("tiny.gguf"))),
        ("folder/tiny.GGUF", FileReference(Path("folder/tiny.GGUF"))),
        ("/data/blob", FileReference(Path("/data/blob"))),
        ("~/m.yaml", FileReference(Path("~/m.yaml"))),
        ("C:\\m\\x", FileReference(Path("C:\\m\\x"))),
        ("file:///data/a%20b.gguf", FileReference(Path("/data/a b.gguf"))),
        ("file:///C:/m/x.gguf", FileReference(Path("C:/m/x.gguf"))),
        ("hf://org/repo", HuggingFaceReference("org/repo")),
        ("hf://org/repo/", HuggingFaceReference("org/repo")),
        ("hf://org/repo:q5_k_s", HuggingFaceReference("org/repo", quantisation="Q5_K_S")),
        ("hf://org/repo@v1:Q8_0", HuggingFaceReference("org/repo", quantisation="Q8_0", revision="v1")),
        ("hf://org/repo/sub/m.gguf", HuggingFaceReference("org/repo", "sub/m.gguf")),
        ("hf://org/repo@0a1b/m.gguf", HuggingFaceReference("org/repo", "m.gguf", revision="0a1b")),
        ("huggingface://org/repo/m.gguf@v2", HuggingFaceReference("org/repo", "m.gguf", revision="v2")),
        ("hf.co/org/repo:Q4_0", HuggingFaceReference("org/repo", quantisation="Q4_0")),
        ("https://huggingface.co/org/repo", HuggingFaceReference("org/repo")),
        ("https://huggingface.co/org/repo/tree/v3", HuggingFaceReference("org/repo", revision="v3")),
        (
            "https://huggingface.co/org/repo/resolve/main/a/m.gguf?download=true",
            HuggingFaceReference("org/repo", "a/m.gguf"),
        ),
        ("https://hf.co/org/repo/blob/v1/m.gguf", HuggingFaceReference("org/repo", "m.gguf", revision="v1")),
        ("ollama://llama3.2", OllamaReference("llama3.2")),
        ("ollama://llama3.2:1b", OllamaReference("llama3.2", tag="1b")),
        ("ollama://library/llama3.2", OllamaReference("llama3.2")),
        ("ollama://me/tiny:q8", OllamaReference("tiny", "me", "q8")),
        ("ollama://box.lan:5000/me/tiny", OllamaReference("tiny", "me", host="box.lan:5000")),
        ("ollama://registry.ollama.ai/library/tiny", OllamaReference("tiny")),
        ("ollama://[::1]:5000/me/tiny", OllamaReference("tiny", "me", host="[::1]:5000")),
        ("ollama://Box.lan:443/me/tiny", OllamaReference("tiny", "me", host="box.lan")),
        ("home@org/model", GalleryReference("org/model", "home")),
        ("https://ollama.com/library/llama3.2:1b", OllamaReference("llama3.2", tag="1b")),
    ],
)
def test_each_way_to_name_a_model_is_understood(text: str, reference: Reference) -> None:
    assert parse_reference(text) == reference


def test_a_url_keeps_what_is_secret_to_itself() -> None:
    reference = parse_reference("HTTPS://me:hunter2@Box.lan:443/a%20b.gguf?X-Signature=s3cret#part")
    assert isinstance(reference, UrlReference)
    assert reference.url.text == "https://me:hunter2@box.lan/a%20b.gguf?X-Signature=s3cret"
    assert str(reference.url) == "https://box.lan/a%20b.gguf"
    for text in (str(reference.url), repr(reference), reference.canonical):
        assert "hunter2" not in text
        assert "s3cret" not in text


def test_a_file_of_github_is_told_as_localai_does() -> None:
    reference = parse_reference("github:mudler/LocalAI/gallery/chatml.yaml@master")
    assert (
        reference.canonical == "https://raw.githubusercontent.com/mudler/LocalAI/master/gallery/chatml.yaml"
    )
    assert parse_reference("github:a/b/c.yaml").canonical.endswith("/a/b/main/c.yaml")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("hf://org/repo@main/m.gguf", "https://huggingface.co/org/repo/resolve/main/m.gguf"),
        ("hf://org/repo:q4_k_m", "huggingface://org/repo:Q4_K_M"),
        ("ollama://tiny", "ollama://registry.ollama.ai/library/tiny:latest"),
        ("https://x.org/m.gguf", "HTTPS://me:pw@X.org:443/m.gguf#top"),
        ("github:a/b/c.gguf@main", "https://raw.githubusercontent.com/a/b/main/c.gguf"),
    ],
)
def test_two_ways_to_write_one_source_are_one(one: str, other: str) -> None:
    assert parse_reference(one).canonical == parse_reference(other).canonical


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://x.org/m.gguf?id=1", "https://x.org/m.gguf?id=2"),
        ("https://x.org/m.gguf", "http://x.org/m.gguf"),
        ("hf://org/repo/m.gguf", "hf://org/repo@v2/m.gguf"),
        ("ollama://me/tiny", "ollama://tiny"),
        ("home@tiny", "tiny"),
    ],
)
def test_two_sources_are_two(one: str, other: str) -> None:
    assert parse_reference(one).canonical != parse_reference(other).canonical


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no model was named"),
        ("  ", "no model was named"),
        (" tiny", "all of them visible"),
        ("ti\nny", "all of them visible"),
        ("x" * 5000, "at most 4096"),
        ("@tiny", "no gallery before"),
        ("home@", "write a gallery's NAME"),
        ("a@b@c", "cannot be a model's name"),
        ("tiny@sha256:" + "0" * 64, "not where it is"),
        ("org/repo", "hf://org/repo for Hugging Face"),
        ("n" * 200, "128 are allowed"),
        ("hf:org/repo", "write hf://..."),
        ("ollama:llama3", "write ollama://..."),
        ("https:/x.org/m.gguf", "two slashes are missing"),
        ("htps://x.org/m.gguf", "htps:// is not known here"),
        ("s3://bucket/m.gguf", "s3:// is not known here"),
        ("oci://quay.io/a/b", "oci:// is not known here"),
        ("hf://", "names no repository"),
        ("hf://org", "names no repository"),
        ("hf://org/", "names no repository"),
        ("hf://o rg/repo", "'o rg' cannot be an organisation"),
        ("hf://org/re..po", "cannot be an organisation or a repository"),
        ("hf://-org/repo", "cannot be an organisation"),
        ("hf://org/repo@", "'' cannot be a revision"),
        ("hf://org/repo@a b/m.gguf", "cannot be a revision"),
        ("hf://org/repo:", "'' cannot be a quantisation"),
        ("hf://org/repo:Q4/m.gguf", "names a file and a quantisation"),
        ("hf://org/repo/m.safetensors", "no GGUF file"),
        ("hf://org/repo/folder", "no GGUF file"),
        ("hf://org/repo/../m.gguf", "no path within a repository"),
        ("hf://org/repo//m.gguf", "no path within a repository"),
        ("hf://org/repo/m.gguf?download=true", "no meaning in hf://"),
        ("https://huggingface.co/datasets/org/data", "no model's page"),
        ("https://huggingface.co/org", "neither a model nor one of its files"),
        ("https://huggingface.co/org/repo/blob/main/README.md", "no GGUF file"),
        ("ollama://", "names no model"),
        ("ollama://me/", "names no model"),
        ("ollama://a/b/c/d", "names no model"),
        ("ollama://tiny:", "no tag after"),
        ("ollama://ti ny", "'ti ny' can be no part"),
        ("ollama://tiny@sha256:00", "write ollama://NAME:TAG"),
        ("ollama://bad..host/me/tiny", "no registry's host"),
        ("ollama://box:99999/me/tiny", "no registry's host"),
        ("ollama://[::1/me/tiny", "no registry's host"),
        ("org/model", "or GALLERY@org/model for a gallery's"),
        ("org/repo@main", "could be several things"),
        ("hf://org/repo@../m.gguf", "cannot be a revision"),
        ("file://box/data/m.gguf", "names no file of this machine"),
        ("file://", "names no file of this machine"),
        ("file://[", "names no file of this machine"),
        ("file:///", "names no file of this machine"),
        ("file:///a%00b.gguf", "names no file of this machine"),
        ("github:a/b", "is not like github:"),
        ("github:a/b/../c@main", "is not like github:"),
        ("http://", "not a URL like"),
        ("http:///m.gguf", "not a URL like"),
        ("http://x:0/m.gguf", "not a URL like"),
        ("http://x:99999/m.gguf", "host or port cannot be read"),
        ("http://[x/m.gguf", "host or port cannot be read"),
        ("http://a..b/m.gguf", "no name or address of a machine"),
        ("http://x/a b.gguf", "printable ASCII"),
        ("http://x/\u00e4.gguf", "printable ASCII"),
    ],
)
def test_a_mistake_is_named_with_what_to_write_instead(text: str, words: str) -> None:
    with pytest.raises(BadReference, match=words) as caught:
        parse_reference(text)
    assert isinstance(caught.value, WrongUse)


@pytest.mark.parametrize(
    "text",
    [
        "http://me:hunter2@x:99999/m.gguf",
        "http://me:hunter2@a..b/m.gguf",
        "http://me:hunter2@[x/m.gguf",
        "htps://me:hunter2@x/m.gguf",
        "http://x/m n.gguf?sig=hunter2",
        "https://hunter2:@huggingface.co/org?sig=hunter2",
    ],
)
def test_a_mistake_in_a_url_is_named_without_its_secrets(text: str) -> None:
    with pytest.raises(BadReference) as caught:
        parse_reference(text)
    assert "hunter2" not in str(caught.value)
