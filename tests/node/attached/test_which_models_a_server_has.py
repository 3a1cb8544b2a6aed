"""Names, and what the lists of each server say."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.probe import MODELS_MAX
from node.attached.dialect import OTHER
from node.attached.json_fields import JsonFields
from node.attached.model_list import (
    AttachedModel,
    guessed_capabilities,
    listed_models,
    lm_studio_models,
    name_of,
    ollama_capabilities,
    ollama_loaded,
    ollama_models,
    owners_in,
    survey_of,
)
from node.models.errors import BadModelName


def fields(**values: Any) -> JsonFields:
    return JsonFields(values, "answer")


@pytest.mark.parametrize(
    ("id_", "name"),
    [
        ("llama3.2:latest", "llama3.2:latest"),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("../models/qwen-0.5b.Q4_K_M.gguf", "qwen-0.5b.Q4_K_M"),
        ("C:\\models\\qwen.gguf", "qwen"),
        ("qwen2.5-7b@q4_k_m", "qwen2.5-7b:q4_k_m"),
    ],
)
def test_a_model_is_called_as_the_server_calls_it_and_a_file_by_its_stem(id_: str, name: str) -> None:
    assert name_of(id_) == name


@pytest.mark.parametrize("id_", ["", " x", "a\nb", "x" * 200])
def test_some_names_no_model_can_have(id_: str) -> None:
    with pytest.raises(BadModelName):
        name_of(id_)


def test_what_a_model_is_for_is_guessed_from_its_name() -> None:
    assert guessed_capabilities("qwen2.5:7b") == ("chat", "completion")
    for name in (
        "nomic-embed-text:latest",
        "BAAI/bge-m3",
        "all-minilm",
        "text-embedding-x",
        "intfloat/e5-base",
    ):
        assert guessed_capabilities(name) == ("embeddings",)
    assert guessed_capabilities("bge-reranker-v2-m3") == ("rerank",)


def test_llama_server_and_vllm_list_sizes() -> None:
    listing = fields(
        data=[
            {"id": "tiny.gguf", "owned_by": "llamacpp", "meta": {"n_ctx_train": 8192, "size": 98_000_000}},
            {"id": "big", "owned_by": "vllm", "max_model_len": 2048, "meta": None},
            {"id": "asleep", "owned_by": "llamacpp", "status": {"value": "unloaded"}},
        ]
    )
    tiny, big, asleep = listed_models(listing)
    assert isinstance(tiny, AttachedModel)
    assert isinstance(big, AttachedModel)
    assert isinstance(asleep, AttachedModel)
    assert (tiny.name, tiny.id, tiny.size_bytes, tiny.state) == ("tiny", "tiny.gguf", 98_000_000, "loaded")
    assert (big.context_size, asleep.state) == (2048, "cold")
    assert owners_in(listing) == {"llamacpp", "vllm"}


def test_ollama_has_some_in_memory_and_no_models_is_no_list() -> None:
    assert listed_models(fields(object="list", data=None)) == []
    listed = listed_models(fields(data=[{"id": "a:latest", "owned_by": "library"}, {"id": "mxbai:latest"}]))
    loaded = ollama_loaded(fields(models=[{"name": "a:latest", "context_length": 4096, "size": 5}]))
    shown = {"mxbai:latest": ollama_capabilities(fields(capabilities=["embedding"]))}
    first, second = ollama_models(listed, loaded, shown)
    assert isinstance(first, AttachedModel)
    assert isinstance(second, AttachedModel)
    assert (first.state, first.context_size, first.capabilities) == ("loaded", 4096, ("chat", "completion"))
    assert (second.state, second.capabilities) == ("cold", ("embeddings",))
    assert ollama_capabilities(fields(capabilities=["completion", "tools"])) == ("chat", "completion")


def test_lm_studio_says_it_all() -> None:
    embeds, chats = lm_studio_models(
        fields(
            data=[
                {"id": "e", "type": "embeddings", "state": "not-loaded", "max_context_length": 512},
                {
                    "id": "c",
                    "type": "llm",
                    "state": "loaded",
                    "max_context_length": 32768,
                    "loaded_context_length": 4096,
                },
            ]
        )
    )
    assert isinstance(embeds, AttachedModel)
    assert isinstance(chats, AttachedModel)
    assert (embeds.state, embeds.capabilities, embeds.context_size) == ("cold", ("embeddings",), 512)
    assert (chats.state, chats.capabilities, chats.context_size) == ("loaded", ("chat", "completion"), 4096)


def test_a_survey_is_bounded_sorted_and_says_what_it_leaves_out() -> None:
    ids = [f"m{index:03}" for index in range(MODELS_MAX + 2)]
    found = survey_of(OTHER, listed_models(fields(data=[{"id": id_} for id_ in ("z.gguf", "z", "", *ids)])))
    assert [model.name for model in found.models] == ids[:MODELS_MAX]
    assert len(found.left_out) == 3
    assert "z is called z here, as z.gguf is" in found.left_out
