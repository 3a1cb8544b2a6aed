"""The engine's own child around the real model, with faults at exact moments.

    python faulty_child.py FOLDER

A file in FOLDER named after a moment (load, self_test, tokenize, prefill, decode) has the faults that are to
come there, one for each process that gets so far: signals that it sends itself, or "hang".
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from node.engine import child
from node.engine.llama.load import load_model
from node.engine.llama.text_model import TextModel
from node.engine.sampling import Scores
from node.engine.scheduler import Span
from node.engine.wire import EngineParams, PromptPart


class Faults:
    """Those that are still to come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def strike(self, moment: str) -> None:
        """That moment is now."""
        path = self._folder / moment
        if not path.exists():
            return
        fault, *later = path.read_text().split()
        if later:
            path.write_text(" ".join(later))
        else:
            path.unlink()
        if fault == "hang":
            threading.Event().wait()
        os.kill(os.getpid(), signal.Signals[fault])


class FaultyModel:
    """A model that does all the real one does, but for the faults."""

    def __init__(self, model: TextModel, faults: Faults) -> None:
        self._model = model
        self._faults = faults

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)

    def self_test(self, clock: Callable[[], float]) -> float:
        self._faults.strike("self_test")
        return self._model.self_test(clock)

    def tokenize(self, part: PromptPart) -> list[int]:
        self._faults.strike("tokenize")
        return self._model.tokenize(part)

    def decode(self, spans: Sequence[Span]) -> Sequence[Scores]:
        if any(span.position > 0 for span in spans):
            # Both in the middle: the second chunk of a prompt, or a token after it.
            self._faults.strike("decode" if all(len(span.tokens) == 1 for span in spans) else "prefill")
        return self._model.decode(spans)


def main() -> None:
    faults = Faults(Path(sys.argv[1]))

    def load(params: EngineParams, on_loading: Callable[[float], None]) -> FaultyModel:
        def on_progress(fraction: float) -> None:
            on_loading(fraction)
            if fraction > 0.5:
                faults.strike("load")

        model = load_model(params, on_progress)
        assert isinstance(model, TextModel)
        return FaultyModel(model, faults)

    child.main(load)  # type: ignore[arg-type]  # Most of it is passed on by name.


if __name__ == "__main__":
    main()
