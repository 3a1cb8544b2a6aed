"""What a gallery's entry says of its model: how large it is, what a token reads, what it is for. Pure.

    size: 4.7GB                     stated, as newer galleries of LocalAI's do
    qwen3-4b-Q4_K_M.gguf            estimated: 4 billion parameters, at the bits of that quantisation
    qwen3-30b-a3b-Q4_K_M.gguf       a mixture of experts: a token reads 3 of its 30 billion parameters
    phi-4-Q4_K_M.gguf               nobody says it

Only names are read, never descriptions: those tell of whole families, and of the models that they beat.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from node.models.split_files import parse_part_name
from node.progress_line import in_units
from node.sources.gallery_index import GalleryEntry

Purpose: TypeAlias = Literal["chat", "embeddings", "rerank"]

_BITS: Mapping[str, float] = {
    # Measured on Llama 3.1 8B by llama.cpp's tools/quantize/README.md. Smaller models take more, because
    # their embeddings, which are kept finer, are a larger part of them.
    "IQ1_S": 2.0,
    "IQ1_M": 2.15,
    "IQ2_XXS": 2.38,
    "IQ2_XS": 2.59,
    "IQ2_S": 2.74,
    "IQ2_M": 2.93,
    "IQ3_XXS": 3.25,
    "IQ3_XS": 3.5,
    "IQ3_S": 3.66,
    "IQ3_M": 3.76,
    "IQ4_XS": 4.46,
    "IQ4_NL": 4.68,
    "Q2_K": 3.16,
    "Q2_K_S": 2.97,
    "Q3_K_S": 3.64,
    "Q3_K_M": 4.3,  # Not in that table: as the next larger one.
    "Q3_K_L": 4.3,
    "Q4_K_S": 4.67,
    "Q4_K_M": 4.89,
    "Q5_K_S": 5.57,
    "Q5_K_M": 5.7,
    "Q6_K": 6.56,
    "Q8_0": 8.5,
    "F16": 16.0,
    # Those are of one kind throughout: 32 numbers share a scale, and some an offset, of 16 bits each.
    "Q4_0": 4.5,
    "Q4_1": 5.0,
    "Q5_0": 5.5,
    "Q5_1": 6.0,
    "BF16": 16.0,
    "F32": 32.0,
}
"""Bits that a parameter takes in each quantisation."""

_QUANTISATION = re.compile(
    rf"(?<![A-Z0-9])(?:{'|'.join(sorted(_BITS, key=len, reverse=True))})(?![A-Z0-9_])", re.IGNORECASE
)
_PARAMETERS = re.compile(
    # Not the 3B of A3B, which is what is active, nor the 4B of E4B, which is what it feels like.
    r"(?<![A-Za-z0-9.])(?:(?P<experts>\d{1,3})x)?(?P<number>\d{1,4}(?:\.\d{1,3})?)(?P<unit>[BM])(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_ACTIVE = re.compile(r"(?<![A-Za-z0-9])A(\d{1,4}(?:\.\d{1,3})?)B(?![A-Za-z0-9])", re.IGNORECASE)
_SIZE = re.compile(r"(\d{1,7}(?:\.\d{1,6})?)\s*([KMGT]?)(I?)B", re.IGNORECASE)
_UNITS = " KMGT"
_MILLION, _BILLION = 1e6, 1e9

_EMBEDDING_WORDS = frozenset({"embedding", "embeddings", "text-embedding", "text-embeddings", "embed"})
_RERANK_WORDS = frozenset({"rerank", "reranker", "reranking"})
_CHAT_WORDS = frozenset({"llm", "chat", "text-generation", "completion", "multimodal", "vision"})
_OTHER_WORDS = frozenset(
    {
        "text-to-image",
        "image-to-image",
        "image-generation",
        "text-to-video",
        "image-to-video",
        "video-generation",
        "diffusion",
        "text-to-speech",
        "tts",
        "speech-to-text",
        "stt",
        "asr",
        "speech-recognition",
        "audio-transcription",
        "transcript",
        "sound-generation",
        "music-generation",
        "vad",
        "voice-activity-detection",
        "object-detection",
        "detection",
        "image",
        "video",
    }
)
"""Tags and use cases of models that this program has nothing to run with."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a model's files are."""

    size_bytes: int
    source: str
    """Who says so, for a person: what follows the number."""
    is_estimate: bool = False

    def __str__(self) -> str:
        return f"{'about ' if self.is_estimate else ''}{in_units(self.size_bytes)}, {self.source}"


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a name says of a model's weights. Both in parameters."""

    total: float
    active: float
    """What one token reads of them: less than all in a mixture of experts."""

    @property
    def share(self) -> float:
        """Of its weights, that one token reads: above 0, at most 1."""
        return self.active / self.total

    @property
    def note(self) -> str:
        """For a person; empty where a token reads all."""
        if self.active == self.total:
            return ""
        return f"a mixture of experts: a token reads {_count(self.active)} of its {_count(self.total)}"


def parameters_of(*names: str) -> Parameters | None:
    """What the first of `names` that says one number of parameters says; None: none does.

    `8x7B` is taken as eight times seven, which is more than such a model has: parts of it are shared.
    """
    for name in names:
        found = {_number(match) for match in _PARAMETERS.finditer(name)}
        # `7B-Instruct-1M` has 7 billion parameters, and reads a million tokens.
        total = {number for number in found if number >= _BILLION / 10} or found
        if len(total) != 1:
            continue
        (parameters,) = total
        active = {float(match[1]) * _BILLION for match in _ACTIVE.finditer(name)}
        share = active.pop() if len(active) == 1 else parameters
        if parameters > 0 and share > 0:
            return Parameters(parameters, min(share, parameters))
    return None


def size_of(entry: GalleryEntry) -> Size | None:
    """How large its files are, if it says that, or an estimate, if its names allow one."""
    if entry.size and (size_bytes := _size_bytes(entry.size)):
        return Size(size_bytes, "as its gallery says")
    file = model_file(entry)
    parameters = parameters_of(file, entry.name)
    bits = {match[0].upper() for match in _QUANTISATION.finditer(file)}
    if parameters is None or len(bits) != 1:
        return None
    (quantisation,) = bits
    return Size(
        round(parameters.total * _BITS[quantisation] / 8),
        f"an estimate: by its name {_count(parameters.total)} parameters at {_BITS[quantisation]:g} bits"
        f" ({quantisation})",
        is_estimate=True,
    )


def model_file(entry: GalleryEntry) -> str:
    """What its weights' file is called; empty: it names no GGUF file."""
    models = [file.filename.rpartition("/")[2] for file in entry.files if is_model_file(file.filename)]
    parameters = _setting(entry, "parameters")
    model = parameters.get("model") if isinstance(parameters, Mapping) else None
    named = model.rpartition("/")[2] if isinstance(model, str) else ""
    if named.lower().endswith(".gguf") and (named in models or not models):
        return named
    return models[0] if models else ""


def is_model_file(name: str) -> bool:
    """Whether it is one of weights, and not the projector that goes with them."""
    return name.lower().endswith(".gguf") and "mmproj" not in name.lower()


def sha256_of(entry: GalleryEntry) -> str:
    """Of its weights, where they are one file; empty: not known."""
    file = model_file(entry)
    if parse_part_name(file):
        return ""
    return next((each.sha256 for each in entry.files if each.filename.rpartition("/")[2] == file), "")


def has_projector(entry: GalleryEntry) -> bool:
    """Whether something comes beside its weights, whose size no name tells."""
    return any("mmproj" in file.filename.lower() for file in entry.files)


def purpose_of(entry: GalleryEntry) -> Purpose | None:
    """What it is for; None: for something that this program does not do, or in a format it does not read."""
    backend = _setting(entry, "backend")
    if isinstance(backend, str) and not _is_llama(backend):
        return None
    if not model_file(entry):
        return None
    words = {tag.casefold() for tag in entry.tags} | set(_use_cases(entry))
    name = set(re.split(r"[^a-z0-9]+", entry.name.casefold()))
    if _setting(entry, "reranking") is True or words & _RERANK_WORDS or name & _RERANK_WORDS:
        return "rerank"
    if _setting(entry, "embeddings") is True or words & _EMBEDDING_WORDS or name & _EMBEDDING_WORDS:
        return "embeddings"
    if words & _OTHER_WORDS and not words & _CHAT_WORDS:
        return None
    return "chat"


def _setting(entry: GalleryEntry, key: str) -> Any:  # noqa: ANN401 (whatever stands in its YAML)
    return entry.overrides.get(key, entry.base.settings.get(key))


def _use_cases(entry: GalleryEntry) -> Iterable[str]:
    """As LocalAI writes them: `FLAG_CHAT`, `chat`."""
    listed = _setting(entry, "known_usecases")
    if isinstance(listed, list):
        for case in listed:
            if isinstance(case, str):
                yield case.casefold().removeprefix("flag_")


def _is_llama(backend: str) -> bool:
    return backend.endswith("llama-cpp") or backend in {"", "llama", "llama.cpp"}


def _number(match: re.Match[str]) -> float:
    unit = _BILLION if match["unit"].upper() == "B" else _MILLION
    return int(match["experts"] or 1) * float(match["number"]) * unit


def _size_bytes(text: str) -> int:
    """`4.7GB`, `500 MiB`, as bytes; 0: it is none."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        return 0
    unit: int = (1024 if match[3] else 1000) ** _UNITS.index(match[2].upper() or " ")
    return round(float(match[1]) * unit)


def _count(parameters: float) -> str:
    return f"{parameters / _BILLION:g}B" if parameters >= _BILLION else f"{parameters / _MILLION:g}M"
