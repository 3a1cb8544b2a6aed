"""Report: the figures as tables, and `docs/simulation.md` around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.sim.figures import AIMS, Figure, most_likely_below
from tests.sim.plan import MESH, VIEW_SIZES, VIEWS
from tests.sim.scenarios import PATIENCE

TABLE_SIZES = (10, 100, 1000)

_UNITS: dict[str, Callable[[float], str]] = {
    "bytes a second, idle": lambda value: f"{value:,.0f} B/s",
    "newcomer received": lambda value: f"{value / 1024:,.0f} KB",
}

_ROWS = (
    *AIMS,
    "a split heals",
    "newcomer knows all",
    "newcomer known by all",
    "newcomer received",
)

_VIEW_COLUMNS: dict[str, tuple[str, Callable[[Figure], str]]] = {
    "links": ("links", lambda each: f"{each.mean:.0f}"),
    "bytes a second, idle": ("B/s", lambda each: f"{each.mean:,.0f}"),
    "write known by all": ("write", lambda each: f"{each.worst:.2f} s"),
    "killed, noticed by all": ("killed", lambda each: f"{each.worst:.2f} s"),
    "frozen, suspect everywhere": ("frozen", lambda each: f"{each.worst:.2f} s"),
    "a split heals": ("split heals", lambda each: f"{each.worst:.1f} s"),
    "reachable after half died": ("together", lambda each: f"{100 * each.mean:.1f} %"),
    "half died, noticed by all": ("half noticed", lambda each: _waited(each.worst)),
}


def _waited(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds <= PATIENCE else f"more than {PATIENCE:.0f} s"


def table(figures: Sequence[Figure]) -> str:
    """All that was measured, as Markdown: the program as it is, then views of other sizes."""
    found = {(each.name, each.size, each.view): each for each in figures}
    parts = [_main_table(found), _view_table(found)]
    return "\n\n".join(part for part in parts if part)


def _main_table(found: dict[tuple[str, int, str], Figure]) -> str:
    sizes = [size for size in TABLE_SIZES if any(size == each[1] and not each[2] for each in found)]
    rows = []
    for name in _ROWS:
        cells = [_cell(found.get((name, size, "")), found.get(("node-hours", size, ""))) for size in sizes]
        if any(cells):
            rows.append(f"| {name} | " + " | ".join(cell or "-" for cell in cells) + " |")
    if not rows:
        return ""
    head = "| | " + " | ".join(f"{size} nodes" for size in sizes) + " |"
    return "\n".join([head, "|---" * (len(sizes) + 1) + "|", *rows])


def _cell(figure: Figure | None, hours: Figure | None) -> str:
    if figure is None:
        return ""
    if figure.name == "false offline":
        assert hours is not None
        bound = most_likely_below(round(figure.total)) * 1000 / hours.total
        said = f"**{figure.total:.0f}** in {hours.total:,.0f} node-hours (below {bound:.1f} per 1,000, 95 %)"
    elif figure.name == "bytes a second, idle":
        said = f"**{figure.mean:,.0f}** B/s (at most {figure.worst:,.0f})"
    elif figure.name in _UNITS:
        said = f"{_UNITS[figure.name](figure.p50)} (at most {_UNITS[figure.name](figure.worst)})"
    else:
        said = f"**{figure.p99:.2f} s** (p50 {figure.p50:.2f}, at most {figure.worst:.2f}; n={figure.count})"
    if figure.aim is None:
        return said
    aim = f"{figure.aim:,.0f}" + ("" if figure.name == "false offline" else _unit(figure))
    return f"{said}; aim {aim}" + ("" if figure.is_reached else " **missed**")


def _unit(figure: Figure) -> str:
    return " B/s" if "bytes" in figure.name else " s"


def _view_table(found: dict[tuple[str, int, str], Figure]) -> str:
    columns = " | ".join(title for title, _ in _VIEW_COLUMNS.values())
    rows = []
    for size in VIEW_SIZES:
        for view in VIEWS:
            cells = [
                show(found[name, size, view]) if (name, size, view) in found else ""
                for name, (_, show) in _VIEW_COLUMNS.items()
            ]
            if any(cells):
                rows.append(f"| {size} | {view} | " + " | ".join(cells) + " |")
    if not rows:
        return ""
    return "\n".join([f"| nodes | view | {columns} |", "|---" * (len(_VIEW_COLUMNS) + 2) + "|", *rows])


def write_report(folder: Path, figures: Sequence[Figure], seed: int) -> None:
    """`simulation.md` and its plots, in `folder`."""
    # Drawing takes a library that only developers have, and only this step needs.
    from tests.sim.plots import draw

    folder.mkdir(exist_ok=True)
    draw(folder, figures)
    found = {(each.name, each.size, each.view): each for each in figures}
    text = (Path(__file__).parent / "report.md").read_text(encoding="utf-8")
    hours = {size: found[name, size, ""] for name, size, _ in found if name == "node-hours"}
    suspects = ", ".join(
        f"{found['false suspect', size, ''].total * 1000 / hours[size].total:,.0f} of {size} nodes"
        for size in sorted(hours)
    )
    text = (
        text.replace("{main table}", _main_table(found))
        .replace("{view table}", _view_table(found))
        .replace("{suspects}", suspects)
        .replace("{mesh}", MESH)
        .replace("{seed}", str(seed))
    )
    (folder / "simulation.md").write_text(text, encoding="utf-8")
