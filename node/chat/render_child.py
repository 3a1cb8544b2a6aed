"""The process that renders chat templates and tries grammars: `python -m node.chat.render_child`.

Either may loop or grow as it likes here: the node kills this process when it has
computed for too long, memory is capped where the system can, and a watchdog ends the
process even when the node is gone. Speaks `render_wire.py` on stdin and stdout.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from io import BufferedReader
from typing import Any, BinaryIO

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from node.chat.errors import GrammarRefused, RendererUnavailable
from node.chat.grammar_library import check_grammar, lark_of_gbnf
from node.chat.render_wire import RENDER_FRAME_SIZE_MAX, RENDER_TIMEOUT, RENDER_WAIT_MAX
from p2p.errors import FrameTooLarge
from p2p.framing import FrameDecoder, encode_frame

MEMORY_BYTES_MAX = 512 * 2**20
"""Of address space: Python and jinja2 take a tenth of it, the largest request as much again."""

_WATCHDOG_TIMEOUT = RENDER_TIMEOUT + 1.0
"""Seconds of computing; later than the node's own bound, which can say why."""

# What a template can raise: jinja2's own, and those of the Python operators it uses. Anything else
# is our mistake and ends the process.
_TEMPLATE_ERRORS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


class _GenerationTag(Extension):
    """`{% generation %}`, with which training code finds the assistant's words. Here: its body."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 declares it as a plain class attribute)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # jinja2's own `tojson` escapes `<` and `&` for HTML, which no model was trained on.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _now(format_: str) -> str:
    # Local time without a zone, because templates print the date people live in.
    return datetime.now().strftime(format_)  # noqa: DTZ005


def _environment() -> ImmutableSandboxedEnvironment:
    """Jinja as Hugging Face's `apply_chat_template` sets it up: what templates are written for."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, LoopControlExtension]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(raise_exception=_raise_exception, strftime_now=_now)
    return environment


def render(compile_template: Callable[[str], Template], request: Mapping[str, Any]) -> dict[str, str]:
    """The answer to one request: `{"text": ...}` or `{"error": ...}`."""
    try:
        return {"text": compile_template(request["template"]).render(request["values"])}
    except MemoryError:
        return {"error": "the template took too much memory"}
    except _TEMPLATE_ERRORS as error:
        return {"error": str(error) or type(error).__name__}


def try_grammar(request: Mapping[str, Any]) -> dict[str, str]:
    """The same for a request about a grammar; `{"unavailable": ...}` where none can be run."""
    try:
        if "gbnf" in request:
            return {"text": lark_of_gbnf(request["gbnf"])}
        check_grammar(request["grammar"])
    except MemoryError:
        return {"error": "it takes too much memory"}
    except GrammarRefused as error:
        return {"error": str(error)}
    except RendererUnavailable as error:
        return {"unavailable": str(error)}
    return {"text": ""}


def main() -> None:
    # Ctrl-C in a terminal reaches every process in it; the node decides what ends when.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = _own_pipes()
    _limit_memory()
    environment = _environment()
    # A node has a few models, so a few templates; compiling one takes 5 ms.
    compile_template = lru_cache(maxsize=16)(environment.from_string)
    decoder = FrameDecoder(RENDER_FRAME_SIZE_MAX)
    _write(answers, {"ready": True})
    while data := requests.read1(2**16):
        for request in decoder.feed_untrusted(data):
            _end_after(_WATCHDOG_TIMEOUT)
            answer = render(compile_template, request) if "template" in request else try_grammar(request)
            _end_after(0)
            _write(answers, answer)


def _end_after(seconds: float) -> None:
    """End this process when it has computed that long, in the middle of whatever it does; 0: not any more."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, seconds)
    elif seconds:
        # Windows has no such timer. By the clock, then, and after the node's longest wait.
        faulthandler.dump_traceback_later(RENDER_WAIT_MAX + seconds, exit=True)
    else:
        faulthandler.cancel_dump_traceback_later()


def _own_pipes() -> tuple[BufferedReader, BinaryIO]:
    """Stdin and stdout for frames alone: whatever prints from now on, prints to stderr."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return requests, answers


def _limit_memory() -> None:
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  (there is none on Windows)

    # macOS counts memory it shares with every process and may refuse; the time bound holds there.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))


def _write(answers: BinaryIO, answer: Mapping[str, Any]) -> None:
    try:
        frame = encode_frame(answer, RENDER_FRAME_SIZE_MAX)
    except (FrameTooLarge, UnicodeEncodeError) as error:
        frame = encode_frame({"error": f"its text cannot be passed on: {error}"}, RENDER_FRAME_SIZE_MAX)
    answers.write(frame)
    answers.flush()


if __name__ == "__main__":
    main()
