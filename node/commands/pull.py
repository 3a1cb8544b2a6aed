"""`localai-node models pull ...`, and the jobs it starts."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

import click

from node.commands.file_path import path_for_a_node
from node.config import home_option
from node.control import ask
from node.errors import NodeError, WrongUse
from node.home import Home
from node.progress_line import progress_line, upload_line
from node.status_table import printable

_LOOK_INTERVAL = 0.2
"""Seconds between two looks at a job: a line that moves, and five small questions a second."""
_ANEW = "\r\x1b[K"
"""Writes over the line that is there."""
_NEXT = {
    "install": "",
    "load": ": the model is loaded once somebody asks for it",
    "hash": ": it goes on at the next start, or with `localai-node models add FILE`, and others get the model"
    " only after that",
}
"""What becomes of a job that was cancelled, by its kind."""
_TOLD_STEP = 0.1
"""Of a job, that is worth another line where lines cannot be written over: in a log."""


@click.command(epilog="Example: localai-node models pull hf://bartowski/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M")
@click.argument("reference", metavar="NAME|demo|FILE|hf://...|ollama://...|https://...")
@click.option("--name", default="", help="What it is to be called here, if not as at its source.")
@click.option("--detach", is_flag=True, help="Do not wait: print the job, which goes on in the node.")
@home_option
def pull(*, home: Home, reference: str, name: str, detach: bool) -> None:
    """Get a model and serve it. From the nodes of this swarm, if any has it; else from where it is."""
    from node.sources.reference import FileReference, parse_reference

    wanted = parse_reference(reference)
    if isinstance(wanted, FileReference):
        reference = path_for_a_node(wanted.path)
    job = ask(home, "models.pull", reference=reference, name=name)
    if detach:
        click.echo(job["id"])
        return
    try:
        job = _follow(home, job["id"])
    except KeyboardInterrupt:
        click.echo(
            f"\nit goes on in the node: `localai-node models jobs` shows it, and"
            f" `localai-node models cancel {job['id']}` ends it",
            err=True,
        )
        raise
    if job["state"] != "done":
        raise NodeError(job["reason"] or f"job {job['id']} was cancelled")
    if not job["size_bytes"]:
        click.echo(printable(f"{job['model']} is here already"))
        return
    click.echo(printable(f"{job['model']} is served from now on{_came_from(job)}"))


@click.command(epilog="Example: localai-node models jobs")
@home_option
def jobs(*, home: Home) -> None:
    """What is being fetched, and what was; and what other nodes fetched from this one since it started."""
    shown = ask(home, "jobs")
    for job in shown["jobs"]:
        click.echo(printable(f"{job['id']}  {job['state']:<9}  {progress_line(job)}"))
        for warning in job["warnings"] if job["state"] in ("queued", "running") else ():
            click.echo(f"warning: {printable(warning)}")
    for upload in shown["uploads"]:
        click.echo(printable(upload_line(upload)))


@click.command(epilog="Example: localai-node models cancel 3fa07c11d2e4b586")
@click.argument("job")
@home_option
def cancel(*, home: Home, job: str) -> None:
    """End a job. What it has fetched is kept, and the next `pull` of the same goes on with it."""
    known = ask(home, "job", job=job)
    if known is None:
        raise WrongUse(f"there is no job {job}; `localai-node models jobs` lists them")
    ended = ask(home, "job.cancel", job=job)
    click.echo(f"job {job} is cancelled{_NEXT[known['kind']]}" if ended else f"job {job} had ended before")


def _follow(home: Home, job_id: str) -> Mapping[str, Any]:
    """Show how far a job is until it has ended."""
    is_live = sys.stderr.isatty()
    warned: set[str] = set()
    told = "", 0.0
    while True:
        job: Mapping[str, Any] | None = ask(home, "job", job=job_id)
        if job is None:
            raise NodeError(f"the node does not know job {job_id} any more")
        for warning in job["warnings"]:
            if warning not in warned:
                warned.add(warning)
                click.echo(f"{_ANEW if is_live else ''}warning: {printable(warning)}", err=True)
        if job["state"] in ("failed", "cancelled"):
            # Why is what the command ends with; said here too, it would be there twice.
            click.echo(_ANEW if is_live else "", err=True, nl=False)
            return job
        if is_live:
            # What is wider than the terminal wraps, and cannot be written over.
            line = progress_line(job, max(shutil.get_terminal_size().columns - 1, 1))
            click.echo(f"{_ANEW}{printable(line)}", err=True, nl=False)
        elif job["state"] != told[0] or job["fraction"] - told[1] >= _TOLD_STEP:
            told = job["state"], job["fraction"]
            click.echo(printable(progress_line(job)), err=True)
        if job["state"] == "done":
            if is_live:
                click.echo(err=True)
            return job
        time.sleep(_LOOK_INTERVAL)


def _came_from(job: Mapping[str, Any]) -> str:
    sources = sorted(job["sources"].items(), key=lambda source: -source[1])
    return f" (from {', '.join(name for name, _ in sources)})" if sources else ""
