"""What was found as plain data: what `--json` prints, and what goes over the control socket. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from node.sources.gallery_index import GalleryEntry
from node.suggest.holdings import Holdings
from node.suggest.machine import Machine
from node.suggest.stated import Purpose
from node.suggest.suggest import Advice, Place, Suggestion, Unfit

_SUGGESTIONS_USUAL = 10
"""What a person reads."""
_ROWS_MAX = 1000
"""Of each kind, where all are wanted: a row has some hundred bytes, and four megabytes fit an answer
(`control.FRAME_SIZE_MAX`)."""
_MODELS_MAX = 3000
"""More than LocalAI's gallery has. A row has some hundred bytes."""
_TAGS_MAX = 8
_TAG_MAX = 40
"""Characters."""


def advice_map(
    advice: Advice, purpose: Purpose, *, is_all: bool, warnings: Sequence[str] = ()
) -> dict[str, Any]:
    """`advice` as data; without `is_all` the best suggestions alone, and how many others there are."""
    suggestions_max, unfit_max = (_ROWS_MAX, _ROWS_MAX) if is_all else (_SUGGESTIONS_USUAL, 0)
    return {
        "purpose": purpose,
        "machines": [_machine_map(machine) for machine in advice.machines],
        "suggestions": [_suggestion_map(each) for each in advice.suggestions[:suggestions_max]],
        "too_large": [_unfit_map(each) for each in advice.too_large[:unfit_max]],
        "unknown": [_unfit_map(each) for each in advice.unknown[:unfit_max]],
        "counts": {
            "suggestions": len(advice.suggestions),
            "too_large": len(advice.too_large),
            "unknown": len(advice.unknown),
        },
        "warnings": list(warnings),
    }


def models_map(
    entries: Iterable[GalleryEntry], machines: Sequence[Machine], text: str, *, warnings: Sequence[str] = ()
) -> dict[str, Any]:
    """Those of `entries` that have every word of `text` in their name, tags, licence or description; those
    that have them in their name come first."""
    words = text.casefold().split()
    found = [entry for entry in entries if _has(words, _text_of(entry))]
    found.sort(key=lambda entry: not _has(words, entry.name.casefold()))
    holdings = Holdings(machines)
    rows = [
        {
            "id": entry.id,
            "name": entry.name,
            "gallery": entry.gallery,
            "license": entry.license,
            "tags": [tag[:_TAG_MAX] for tag in entry.tags[:_TAGS_MAX]],
            "holders": [machine.name for machine, _ in holdings.of(entry)],
        }
        for entry in found[:_MODELS_MAX]
    ]
    return {"models": rows, "left_out": len(found) - len(rows), "warnings": list(warnings)}


def _suggestion_map(suggestion: Suggestion) -> dict[str, Any]:
    entry, size = suggestion.entry, suggestion.size
    return {
        "id": entry.id,
        "name": entry.name,
        "license": entry.license,
        "size_bytes": size.size_bytes,
        "size_is_estimate": size.is_estimate,
        "node": suggestion.best.machine.name,
        "tokens_per_second": _rounded(suggestion.best.speed),
        "nodes": [_place_map(place) for place in suggestion.places],
        "holders": list(suggestion.holders),
        "reasons": list(suggestion.reasons),
    }


def _place_map(place: Place) -> dict[str, Any]:
    return {"node": place.machine.name, "tokens_per_second": _rounded(place.speed)}


def _unfit_map(unfit: Unfit) -> dict[str, Any]:
    return {"id": unfit.entry.id, "name": unfit.entry.name, "reason": unfit.reason}


def _machine_map(machine: Machine) -> dict[str, Any]:
    return {
        "name": machine.name,
        "is_self": machine.is_self,
        "budget_bytes": machine.budget_bytes,
        "free_bytes": machine.free_bytes,
        "gpus": list(machine.gpus),
        "gpu_free_bytes": None if machine.device_bytes is None else list(machine.device_bytes),
        "measured": [
            {"model": each.model, "size_bytes": each.size_bytes, "tokens_per_second": _rounded(each.speed)}
            for each in machine.measured
        ],
    }


def _rounded(speed: float | None) -> float | None:
    return None if speed is None else round(speed, 2)


def _text_of(entry: GalleryEntry) -> str:
    return " ".join((entry.name, *entry.tags, entry.license, entry.description)).casefold()


def _has(words: Sequence[str], text: str) -> bool:
    return all(word in text for word in words)
