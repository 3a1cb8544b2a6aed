"""What models there are and which fit, for a terminal. Pure: plain data in (`advice_map.py`), text out.

Apart from what makes that data, because whoever only asks a running node needs nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from node.status_table import printable

_TAGS_SHOWN = 6


def render_advice(advice: Mapping[str, Any]) -> str:
    """`advice` as `localai-node models suggest` prints it: a model, and below it why."""
    suggestions, purpose = advice["suggestions"], advice["purpose"]
    machines = ", ".join(machine["name"] for machine in advice["machines"]) or "no node runs models"
    if not suggestions:
        lines = [f"no model for {purpose} is known to fit ({machines})"]
    else:
        lines = [f"for {purpose}, the best first ({machines}):"]
        for suggestion in suggestions:
            lines += ["", _head(suggestion), *(f"    {reason}" for reason in suggestion["reasons"])]
        lines += ["", "get one with `localai-node models pull NAME`"]
    for key, words in (("too_large", "too large for every machine:"), ("unknown", "of unknown size:")):
        if rows := advice[key]:
            lines += ["", words, *(f"    {row['name']}: {row['reason']}" for row in rows)]
    if left_out := _left_out(advice):
        lines += ["", left_out]
    return "\n".join(printable(line) for line in lines)


def render_models(found: Mapping[str, Any]) -> str:
    """`found` as `localai-node models available` prints it: one line for each model."""
    has_several = len({row["gallery"] for row in found["models"]}) > 1
    lines = [_model_line(row, row["id"] if has_several else row["name"]) for row in found["models"]]
    if found["left_out"]:
        lines.append(f"and {found['left_out']} more: say a word of what you look for")
    return "\n".join(printable(line) for line in lines)


def speed_text(speed: float) -> str:
    """Tokens per second for a person: two digits, since most are estimates."""
    return f"{speed:.0f} tokens/s" if speed >= 10 else f"{speed:.2g} tokens/s"


def _head(suggestion: Mapping[str, Any]) -> str:
    speed, node = suggestion["tokens_per_second"], suggestion["node"]
    where = f"on {node}" if speed is None else f"about {speed_text(speed)} on {node}"
    return "  ".join((suggestion["name"], suggestion["license"] or "no licence stated", where))


def _model_line(row: Mapping[str, Any], name: str) -> str:
    tags: Sequence[str] = row["tags"][:_TAGS_SHOWN]
    where = f"on {', '.join(row['holders'])}" if row["holders"] else ""
    return "  ".join(filter(None, (name, row["license"] or "no licence stated", ", ".join(tags), where)))


def _left_out(advice: Mapping[str, Any]) -> str:
    """What there is besides what is shown; empty: nothing."""
    words = {
        "suggestions": "more that fit",
        "too_large": "too large for every machine",
        "unknown": "of unknown size",
    }
    counts = {key: advice["counts"][key] - len(advice[key]) for key in words}
    told = [f"{count} {words[key]}" for key, count in counts.items() if count > 0]
    return f"not shown: {', '.join(told)} (--all shows them)" if told else ""
