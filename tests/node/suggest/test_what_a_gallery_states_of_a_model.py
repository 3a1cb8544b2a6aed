"""Sizes and purposes are read where they are stated, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from node.sources.gallery_index import GalleryEntry, parse_index
from node.suggest.stated import (
    has_projector,
    model_file,
    parameters_of,
    purpose_of,
    sha256_of,
    size_of,
)

SHA256 = "ab" * 32


def entry(file: str = "m.gguf", **fields: Any) -> GalleryEntry:
    model = {"name": "m", "files": [{"filename": file, "uri": "https://example.org/m", "sha256": SHA256}]}
    (found,) = parse_index(yaml.safe_dump([{**model, **fields}]).encode(), gallery="home").entries
    return found


@pytest.mark.parametrize(
    ("name", "billions", "active"),
    [
        ("qwen3-4b-Q4_K_M.gguf", 4, 4),
        ("Qwen2.5-0.5B-Instruct", 0.5, 0.5),
        ("smollm2-135m-instruct", 0.135, 0.135),
        ("bge-small-33m-f16", 0.033, 0.033),
        ("Qwen3-30B-A3B-Q4_K_M.gguf", 30, 3),
        ("qwen3.5-35b-a3.5b", 35, 3.5),
        ("Mixtral-8x7B-Instruct", 56, 56),
        ("Qwen2.5-7B-Instruct-1M", 7, 7),
        ("Llama-3.2-1B.Q8_0", 1, 1),
    ],
)
def test_parameters_are_read_from_names(name: str, billions: float, active: float) -> None:
    found = parameters_of(name)
    assert found is not None
    assert (found.total, found.active) == (billions * 1e9, active * 1e9)
    assert found.note == (
        "" if active == billions else f"a mixture of experts: a token reads {active:g}B of its {billions:g}B"
    )


@pytest.mark.parametrize(
    "name",
    ["phi-4", "gemma-3n-E4B-it", "model-a3b", "llama-7b-to-70b", "v2.4b5", "128k", "0b", "qwen-4bit", ""],
)
def test_parameters_that_no_name_states_are_not_made_up(name: str) -> None:
    assert parameters_of(name) is None


def test_the_first_name_that_says_it_counts() -> None:
    found = parameters_of("phi.gguf", "phi-14b", "phi-15b")
    assert found is not None
    assert found.total == 14e9


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("4.7GB", 4_700_000_000), ("500 MiB", 500 * 2**20), ("12345B", 12345), ("1tb", 10**12)],
)
def test_a_stated_size_is_no_estimate(text: str, size_bytes: int) -> None:
    size = size_of(entry("x-7B-Q4_K_M.gguf", size=text))
    assert size is not None
    assert (size.size_bytes, size.is_estimate) == (size_bytes, False)
    assert "as its gallery says" in str(size)


@pytest.mark.parametrize("text", ["", "big", "0GB", "-5GB", "1e9GB", "5"])
def test_what_is_no_size_is_passed_over(text: str) -> None:
    size = size_of(entry("x-8B-Q8_0.gguf", size=text))
    assert size is not None
    assert (size.size_bytes, size.is_estimate) == (8_500_000_000, True)


def test_an_estimate_says_that_it_is_one_and_what_it_is_made_of() -> None:
    text = str(size_of(entry("x-8B-Q4_K_M.gguf")))
    assert text == "about 4.9 GB, an estimate: by its name 8B parameters at 4.89 bits (Q4_K_M)"


@pytest.mark.parametrize("file", ["phi-4-Q4_K_M.gguf", "x-8B.gguf", "x-8B-Q9_Z.gguf", "x-8B-Q4_0-Q8_0.gguf"])
def test_without_parameters_or_one_quantisation_there_is_no_size(file: str) -> None:
    assert size_of(entry(file)) is None


def test_a_description_is_no_place_to_look_for_numbers() -> None:
    assert size_of(entry("m-Q4_K_M.gguf", description="Beats models of 70B parameters.")) is None


def test_the_model_is_told_from_its_projector() -> None:
    files = [
        {"filename": f"sub/{name}", "uri": "https://example.org/x", "sha256": sha256}
        for name, sha256 in (("mmproj-f16.gguf", "cd" * 32), ("x-7B-Q8_0.gguf", SHA256))
    ]
    found = entry(files=files)
    assert (model_file(found), sha256_of(found), has_projector(found)) == ("x-7B-Q8_0.gguf", SHA256, True)
    assert not has_projector(entry())


def test_of_several_files_the_settings_say_which_is_the_model() -> None:
    files = [
        {"filename": f"{name}.gguf", "uri": "https://example.org/x"} for name in ("draft-1B-F16", "x-7B-F16")
    ]
    found = entry(files=files, overrides={"parameters": {"model": "x-7B-F16.gguf"}})
    assert model_file(found) == "x-7B-F16.gguf"


def test_a_part_s_hash_is_not_that_of_the_model() -> None:
    assert sha256_of(entry("x-00001-of-00002.gguf")) == ""


@pytest.mark.parametrize(
    ("fields", "purpose"),
    [
        ({}, "chat"),
        ({"tags": ["llm", "vision", "image"]}, "chat"),
        ({"tags": ["Embeddings"]}, "embeddings"),
        ({"overrides": {"embeddings": True}}, "embeddings"),
        ({"name": "nomic-embed-text"}, "embeddings"),
        ({"overrides": {"known_usecases": ["FLAG_RERANK"]}}, "rerank"),
        ({"overrides": {"reranking": True, "embeddings": True}}, "rerank"),
        ({"config_file": {"backend": "cuda12-llama-cpp"}}, "chat"),
        ({"config_file": {"backend": "stablediffusion-ggml"}}, None),
        ({"tags": ["text-to-image"]}, None),
        ({"overrides": {"known_usecases": ["tts"]}}, None),
        ({"files": [{"filename": "m.safetensors", "uri": "https://example.org/m"}]}, None),
        ({"files": []}, None),
    ],
)
def test_what_a_model_is_for_is_read_from_its_entry(fields: dict[str, Any], purpose: str | None) -> None:
    assert purpose_of(entry(**fields)) == purpose
