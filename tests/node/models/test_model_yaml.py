from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.backend import Sampling
from node.models.errors import BadModelYaml
from node.models.model_yaml import YAML_SIZE_MAX, ModelSettings, parse_model_yaml, read_model_yaml

LOCALAI = """
name: gpt-4
backend: llama-cpp
parameters:
  model: tiny.gguf
  temperature: 0.2
  top_k: 40
  top_p: 1e-1
  min_p: 0.05
  seed: -1
  max_tokens: 0
context_size: 8192
threads: 4
f16: true
cache_type_k: q8_0
cache_type_v: q4_0
flash_attention: true
pinned: true
mmap: true
mmlock: false
gpu_layers: 99
stopwords: ["<|im_end|>"]
template:
  use_tokenizer_template: true
"""


def parse(text: str) -> ModelSettings:
    return parse_model_yaml(text, source="m.yaml")


def test_a_localai_file_is_understood_unchanged() -> None:
    settings = parse(LOCALAI)
    assert settings == ModelSettings(
        name=settings.name,
        file="tiny.gguf",
        sampling=Sampling(temperature=0.2, top_k=40, top_p=0.1, min_p=0.05),
        stop=("<|im_end|>",),
        context_size=8192,
        threads=4,
        gpu_layers=99,
        f16=True,
        cache_type_k="q8_0",
        cache_type_v="q4_0",
        flash_attention="on",
        pinned=True,
        mmap=True,
        mlock=False,
    )
    assert settings.name == "gpt-4"


def test_an_empty_file_says_nothing() -> None:
    assert parse("") == ModelSettings()


def test_how_a_model_calls_tools_can_be_said() -> None:
    assert parse("function: {tool_format: hermes}").tool_format == "hermes"
    assert parse("function: {tool_format: '', grammar: {parallel_calls: true}}") == ModelSettings(
        warnings=("m.yaml: function.grammar is not known here and has no effect",)
    )


def test_unknown_keys_are_named_once_each() -> None:
    settings = parse(
        "name: m\ntrust_remote_code: true\nparameters: {language: en}\ntemplate: {completion: x}"
    )
    assert settings.warnings == (
        "m.yaml: trust_remote_code is not known here and has no effect",
        "m.yaml: parameters.language is not known here and has no effect",
        "m.yaml: template.completion is not known here and has no effect",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("context_size: big", "m.yaml: context_size must be a whole number"),
        ("context_size: -1", "m.yaml: context_size must be from 0"),
        ("gpu_layers: 99999999999", "m.yaml: gpu_layers must be from 0"),
        ("threads: true", "m.yaml: threads must be a whole number"),
        ("f16: 1", "m.yaml: f16 must be true or false"),
        ("parameters: {temperature: -1}", "m.yaml: parameters.temperature must be a number from 0 to 100"),
        ("parameters: {top_p: .nan}", "m.yaml: parameters.top_p must be a number"),
        ("parameters: {min_p: [1]}", "m.yaml: parameters.min_p must be a number"),
        ("parameters: [model]", "m.yaml: parameters must be a map"),
        ("parameters: {model: 'huggingface://a/b'}", "m.yaml: parameters.model is a download address"),
        ("parameters: {seed: 4294967296}", "m.yaml: parameters.seed must be below"),
        ("stopwords: text", "m.yaml: stopwords must be a list of texts"),
        ("stopwords: ['']", "m.yaml: stopwords must be a list of texts"),
        ("name: a@b", "m.yaml: name is wrong"),
        (f"name: {'ä' * 65}", "m.yaml: name is wrong"),
        ('name: "\\ud800"', "m.yaml: name must be text"),
        ('parameters: {model: "\\ud800"}', "m.yaml: parameters.model must be text"),
        ('stopwords: ["\\ud800"]', "m.yaml: stopwords must be a list of texts"),
        ("backend: whisper", "m.yaml: backend is 'whisper'"),
        (
            "function: {tool_format: qwen}",
            "m.yaml: function.tool_format is 'qwen'; there is hermes, llama, mistral, mistral-args, gemma",
        ),
        ("function: {tool_format: [hermes]}", "m.yaml: function.tool_format must be text"),
        ("- a list", "m.yaml: the document must be a map"),
        ("a: [", "m.yaml is not YAML"),
        ("[" * 5000, "m.yaml is not YAML"),
        ("a: 2020-13-45", "m.yaml is not YAML"),
        ("!!python/object/apply:os.system [ls]", "m.yaml is not YAML"),
    ],
)
def test_a_wrong_value_names_file_and_key(text: str, says: str) -> None:
    with pytest.raises(BadModelYaml) as caught:
        parse(text)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_content_raises_anything_else(content: bytes) -> None:
    with suppress(BadModelYaml):
        parse_model_yaml(content, source="m.yaml")


@pytest.mark.parametrize(
    "go",
    [
        "{{.Input}}\n### Response:",
        "{{- range .Messages }}{{ .Content }}{{ end }}",
        '{{if eq .RoleName "assistant"}}<|im_start|>{{end}}',
        "{{ toJson .Functions }}",
        "chatml-block",
    ],
)
def test_a_go_template_is_left_aside_and_said_so(go: str) -> None:
    settings = parse_model_yaml(f"template: {{chat: {go!r}}}", source="m.yaml")
    assert settings.chat_template is None
    assert len(settings.warnings) == 1
    assert "template.chat" in settings.warnings[0]


@pytest.mark.parametrize(
    "jinja",
    [
        "{% for message in messages %}{{ message.content }}{% endfor %}",
        "{{- bos_token }}{{ messages[0]['content'] | trim }}",
        "{%- if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}",
        "{{ range(3) | join }}",
    ],
)
def test_a_jinja_template_is_kept(jinja: str) -> None:
    settings = parse(f"template:\n  chat: |-\n    {jinja}")
    assert settings.chat_template == jinja
    assert settings.warnings == ()


def test_a_huge_or_missing_file_is_refused(tmp_path: Path) -> None:
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"#" * (YAML_SIZE_MAX + 1))
    with pytest.raises(BadModelYaml, match="larger than"):
        read_model_yaml(huge)
    with pytest.raises(BadModelYaml, match="cannot be read"):
        read_model_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cache_type_k: q9_9", "cache_type_k must be one of f32, f16, q8_0, q4_0"),
        ("flash_attention: sometimes", "flash_attention must be auto, on or off"),
        ("flash_attention: off\ncache_type_v: q8_0", "cache_type_v q8_0 needs flash_attention, which is off"),
    ],
)
def test_a_cache_that_cannot_be_says_why(text: str, says: str) -> None:
    with pytest.raises(BadModelYaml, match=says):
        parse(text)
