"""What a node says on stderr: one line per event, for people or for programs.

Every part logs through the standard library; only this module knows how a line
looks. Log calls carry ids, never secrets: keys, tokens and seeds hide themselves
in `repr`. Nobody who logs waits for who reads (`log_queue.py`).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import structlog
from structlog.typing import EventDict

from node.log_queue import LogQueue, raw_writer

LogFormat: TypeAlias = Literal["text", "json"]

announcements = logging.getLogger("localai_node.announcements")
"""For what other programs wait for: it comes out whatever `--log-level` says."""

# These libraries log each packet or retry at info; their warnings are about peers, which we report ourselves.
_NOISY = ("filelock", "libp2p", "hypercorn", "httpx", "httpcore", "zeroconf", "multiaddr", "noise", "asyncio")


def _quote_odd_text(_logger: Any, _method: str, said: EventDict) -> EventDict:  # noqa: ANN401 (structlog's)
    """What peers and clients called something must not look like other lines, or move a terminal's cursor."""
    for name, value in said.items():
        if name != "event" and isinstance(value, str) and not value.isprintable():
            said[name] = repr(value)[1:-1]
    return said


@contextmanager
def logging_to_stderr(level: str, log_format: LogFormat) -> Iterator[None]:
    """Send everything from `level` up to stderr, for as long as the command runs that runs a node.

    Leaving waits until all of it is written, or nobody reads it.
    """
    handler = LogQueue(raw_writer(sys.stderr))
    handler.setFormatter(_formatter(log_format))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    announcements.setLevel(logging.INFO)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.finish()


def _formatter(log_format: LogFormat) -> logging.Formatter:
    for_programs = log_format == "json"
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if for_programs else "%H:%M:%S", utc=for_programs),
        structlog.stdlib.ExtraAdder(),
        _quote_odd_text,
    ]
    # Not on Windows, whose older consoles show colours only to who goes through a library for them.
    colors = sys.stderr.isatty() and sys.platform != "win32"
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if for_programs
        else structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=0, sort_keys=False)
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ],
    )
