"""Settings of a model, in LocalAI's YAML: people bring theirs unchanged.

    name: my-model
    parameters: {model: file.gguf, temperature: 0.2, top_p: 0.9, max_tokens: 512}
    context_size: 4096
    stopwords: ["</s>"]
    mmproj: projector.gguf
    function: {tool_format: hermes}
    template: {chat: "{% for message in messages %}..."}

A key this program does not know is warned about and skipped; a value of the wrong
type is an error that names the key. LocalAI's ways to say "not set" are kept:
0 threads, 0 context_size, 0 max_tokens and seed -1 all mean the default.

`template.chat` is Jinja here. LocalAI's is a Go template, or the name of a file with
one; those are recognised, reported and left aside, since the model's own template
(or the plain fallback) beats a prompt with `{{.Input}}` in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from federation.backend import Sampling
from ledger.records import ModelName
from node.chat.formats.choice import FORMATS
from node.engine.wire import CacheType, FlashAttention
from node.models.errors import BadModelName, BadModelYaml
from node.models.model_name import parse_model_name
from node.models.yaml_reader import (
    WrongValue,
    YamlReader,
    boolean,
    count,
    integer,
    number_between,
    text,
    texts,
)

YAML_SIZE_MAX = 64 * 1024
"""Bytes. The largest in LocalAI's gallery are a few thousand; the parser takes half a second for this."""

_STOPS_MAX = 64
"""LocalAI's gallery has up to 9 in one file; each is compared with every piece of text."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """What a YAML says of one model. None: not said, so the default."""

    name: ModelName | None = None
    file: str = ""
    """`parameters.model`: relative to the YAML's folder, or absolute."""
    mmproj: str = ""
    """The file of the projector that turns images into tokens, likewise. Not used yet, but kept."""
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    context_size: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    """-1: all."""
    f16: bool | None = None
    cache_type_k: CacheType | None = None
    cache_type_v: CacheType | None = None
    flash_attention: FlashAttention | None = None
    pinned: bool | None = None
    """It stays loaded; nothing makes it go but a person."""
    mmap: bool | None = None
    mlock: bool | None = None
    """`mmlock` in the YAML."""
    chat_template: str | None = None
    """Jinja; None: the model's own."""
    tool_format: str | None = None
    """`function.tool_format`, one of `FORMATS`; None: as the chat template tells."""
    warnings: tuple[str, ...] = ()
    """One line each, for a person."""


def read_model_yaml(path: Path) -> ModelSettings:
    """The settings in the file at `path`.

    Raises:
      BadModelYaml: it cannot be read or understood.
    """
    try:
        with path.open("rb") as file:
            content = file.read(YAML_SIZE_MAX + 1)
    except OSError as error:
        raise BadModelYaml(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > YAML_SIZE_MAX:
        raise BadModelYaml(f"{path} is larger than {YAML_SIZE_MAX} bytes: these are no settings")
    return parse_model_yaml(content, source=str(path))


def parse_model_yaml(content: bytes | str, *, source: str) -> ModelSettings:
    """The settings in `content`; `source` names it in what is reported.

    Raises:
      BadModelYaml: it is not YAML, not a map, or a known key has a value it cannot have.
    """
    top = YamlReader.parse(content, source=source)
    parameters = top.section("parameters")
    template = top.section("template")
    function = top.section("function")
    top.take("backend", _llama_backend)
    # "Use the template in the model's file" is what we do anyway unless `chat` is given.
    template.take("use_tokenizer_template", boolean)
    settings = ModelSettings(
        name=top.take("name", _name),
        file=parameters.take("model", _file) or "",
        mmproj=top.take("mmproj", _file) or "",
        sampling=Sampling(
            temperature=parameters.take("temperature", number_between(0.0, 100.0)),
            top_k=parameters.take("top_k", count),
            top_p=parameters.take("top_p", number_between(0.0, 1.0)),
            min_p=parameters.take("min_p", number_between(0.0, 1.0)),
            seed=parameters.take("seed", _seed),
        ),
        max_tokens=parameters.take("max_tokens", count) or None,
        stop=top.take("stopwords", texts(_STOPS_MAX)) or (),
        context_size=top.take("context_size", count) or None,
        threads=top.take("threads", count) or None,
        gpu_layers=top.take("gpu_layers", _gpu_layers),
        f16=top.take("f16", boolean),
        cache_type_k=top.take("cache_type_k", _cache_type),
        cache_type_v=top.take("cache_type_v", _cache_type),
        flash_attention=top.take("flash_attention", _flash_attention),
        pinned=top.take("pinned", boolean),
        mmap=top.take("mmap", boolean),
        mlock=top.take("mmlock", boolean),
        chat_template=_jinja_only(template),
        tool_format=function.take("tool_format", _tool_format),
    )
    if settings.flash_attention == "off" and settings.cache_type_v in ("q8_0", "q4_0"):
        raise BadModelYaml(
            f"{source}: cache_type_v {settings.cache_type_v} needs flash_attention, which is off"
        )
    return replace(settings, warnings=top.warnings())


def _name(value: object) -> ModelName:
    try:
        return parse_model_name(text(value))
    except BadModelName as error:
        raise WrongValue(f"is wrong: {error}") from error


def _file(value: object) -> str:
    if "://" in text(value):
        raise WrongValue("is a download address; fetch the file first and give its path")
    return text(value)


def _llama_backend(value: object) -> None:
    # LocalAI's names for builds of llama.cpp end alike: `cuda12-llama-cpp`, `vulkan-llama-cpp`.
    if not text(value).endswith("llama-cpp") and value not in {"", "llama", "llama.cpp"}:
        raise WrongValue(f"is {value!r}; this program has llama-cpp only")


def _tool_format(value: object) -> str | None:
    if text(value) and value not in FORMATS:
        raise WrongValue(f"is {value!r}; there is {', '.join(FORMATS)}")
    return text(value) or None


def _gpu_layers(value: object) -> int:
    # People write 99 or 99999999 for "all of them"; llama.cpp's own word for it is any negative number.
    return -1 if integer(value) < 0 else count(value)


def _cache_type(value: object) -> CacheType:
    for known in get_args(CacheType):
        if value == known:
            return known  # type: ignore[no-any-return]  # it is one of its arguments
    raise WrongValue(f"must be one of {', '.join(get_args(CacheType))}")


def _flash_attention(value: object) -> FlashAttention:
    # LocalAI's is a text; YAML reads an unquoted `on` as true, and people write true.
    match value:
        case "auto":
            return "auto"
        case True | "on" | "true" | "enabled":
            return "on"
        case False | "off" | "false" | "disabled":
            return "off"
    raise WrongValue("must be auto, on or off")


def _seed(value: object) -> int | None:
    seed = integer(value)
    if seed >= 2**32:
        raise WrongValue("must be below 4294967296, what llama.cpp can hold")
    return None if seed < 0 else seed


_GO_TEMPLATE = re.compile(
    r"\{\{-?\s*(?:/\*|[.$]|(?:if|else|end|with|template|define|block)\b|range\s+[.$]|[A-Za-z]\w*\s+[.$\"])"
)
"""A field `{{.Input}}`, a keyword, or a function called without brackets: none of it is Jinja."""


def _jinja_only(template: YamlReader) -> str | None:
    source = template.take("chat", text)
    if not source:
        return None
    if _GO_TEMPLATE.search(source):
        template.warn("chat", "is a Go template; templates are Jinja here, so the model's own is used")
        return None
    if "{{" not in source and "{%" not in source:
        template.warn(
            "chat", f"names a file ({source[:40]!r}); templates are Jinja here, so the model's own is used"
        )
        return None
    return source
