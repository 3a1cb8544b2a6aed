"""A job, or an upload, as one line for a person. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BAR_WIDTH = 24
_SOURCES_SHOWN = 3


def progress_line(job: Mapping[str, Any], width: int | None = None) -> str:
    """`job`, a map as `node/jobs/job.py` makes it; in at most `width` characters, where given: without
    the bar first, then without what it is doing, then cut."""
    lines = (
        _line(job, has_bar=bar, has_step=step) for bar, step in ((True, True), (False, True), (False, False))
    )
    line = next(lines)
    while width is not None and len(line) > width:
        shorter = next(lines, None)
        if shorter is None:
            return f"{line[: width - 1]}…"
        line = shorter
    return line


def _line(job: Mapping[str, Any], *, has_bar: bool, has_step: bool) -> str:
    if job["state"] in ("failed", "cancelled"):
        return f"{job['model']}  {job['reason'] or 'cancelled'}"
    parts = [job["model"]]
    if job["size_bytes"]:
        filled = round(_BAR_WIDTH * job["fraction"])
        bar = f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] " if has_bar else ""
        parts += [
            f"{bar}{job['fraction']:4.0%}",
            f"{in_units(job['done_bytes'])} of {in_units(job['size_bytes'])}",
        ]
    if job["state"] == "running":
        if job["speed"]:
            parts.append(f"{in_units(job['speed'])}/s")
        if job["eta"] is not None:
            parts.append(f"{_duration(job['eta'])} left")
        if has_step or not job["size_bytes"]:
            parts.append(job["step"])
    if job["sources"]:
        parts.append(f"from {_sources(job['sources'])}")
    return "  ".join(filter(None, parts))


def upload_line(upload: Mapping[str, Any]) -> str:
    """What a peer fetched from this node: `uploading to attic: 50.3 MB`."""
    verb = "uploading" if upload["is_running"] else "uploaded"
    return f"{verb} to {upload['name']}: {in_units(upload['size_bytes'])}"


def in_units(size_bytes: float) -> str:
    """`253.1 MB`: as disks and networks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _sources(sources: Mapping[str, int]) -> str:
    ranked = sorted(sources.items(), key=lambda source: (-source[1], source[0]))
    shown = [f"{name} {in_units(size)}" for name, size in ranked[:_SOURCES_SHOWN]]
    more = len(ranked) - _SOURCES_SHOWN
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
