"""An engine child that pretends: its model says the prompt again, byte by byte.

Run as a script in place of `node.engine.child`, it goes wrong where it is told to:
in `path` (crash:load, crash:self_test, crash:extra_bufts, refuse:REASON), or by what
a prompt contains (CRASH while it is decoded, HANG for ever).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

import numpy as np

from node.engine import child
from node.engine.errors import ModelNotLoadable
from node.engine.sampling import Scores
from node.engine.scheduler import Span
from node.engine.slots import Place
from node.engine.wire import EngineParams, ModelFacts, PromptPart

END = 256
BOS = 257


class EchoModel:
    """Its tokens are bytes. Special texts: `<bos>` and `<end>`."""

    def __init__(
        self,
        params: EngineParams,
        on_loading: Callable[[float], object] = abs,
        *,
        bos: int | None = BOS,
        adds_bos: bool = False,
    ) -> None:
        on_loading(0.5)
        self.bos = bos
        self.adds_bos = adds_bos
        self.token_size_max = 8
        self.batches: list[list[Span]] = []
        self.contexts: dict[int, list[int]] = {}
        self.prompts: dict[int, list[int]] = {}
        """What is said again, by slot; where nothing was said yet: what is in the context by then."""
        self.compiled: list[str] = []
        self.ends = {END}
        self.infill: tuple[int, int, int] | None = None
        self.can_rewind = True
        self._params = params
        if params.path == "crash:load":
            os.abort()
        if params.path.startswith("refuse:"):
            raise ModelNotLoadable(params.path.removeprefix("refuse:"))
        self.facts = ModelFacts(
            context_size=params.context_size or 256,
            vocab_size=258,
            chat_template=None,
            bos="<bos>",
            eos="<end>",
            special_tokens=("<bos>", "<end>"),
            special_ids=(BOS, END),
        )

    def self_test(self, clock: Callable[[], float]) -> float:
        if self._params.path == "crash:self_test":
            os.abort()
        if self._params.path == "crash:extra_bufts" and self._params.use_extra_bufts:
            os.abort()
        return 0.001

    def tokenize(self, part: PromptPart) -> list[int]:
        if not part.parse_special:
            return list(part.text.encode())
        special = {"<bos>": BOS, "<end>": END}
        tokens: list[int] = []
        rest = part.text
        while rest:
            name = next((name for name in special if rest.startswith(name)), rest[0])
            tokens += [special[name]] if name in special else name.encode()
            rest = rest[len(name) :]
        return tokens

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < END else b""

    def index_vocabulary(self) -> None:
        pass

    def compile(self, grammar: str) -> SpelledOut:
        self.compiled.append(grammar)
        return SpelledOut(grammar.encode())

    def decode(self, spans: Sequence[Span]) -> list[Scores]:
        self.batches.append(list(spans))
        for span in spans:
            context = self.contexts.setdefault(span.slot, [])
            assert span.position == len(context), "a gap, or a slot that was not emptied"
            context += span.tokens
            if b"CRASH" in bytes(token % 256 for token in context):
                os.abort()
            if b"HANG" in bytes(token % 256 for token in context):
                threading.Event().wait()
        return [self.scores(row) for row, span in enumerate(spans) if span.wants_output]

    def scores(self, row: int) -> Scores:
        slot = self.batches[-1][row].slot
        context = self.contexts[slot]
        said = self.prompts.setdefault(slot, list(context))
        index = len(context) - len(said)
        scores = np.full(258, -100.0, np.float32)
        # If it may not end, it says all of it again.
        scores[said[index % len(said)]] = 50.0
        if index >= len(said):
            scores[END] = 100.0
        return scores

    def prepare(self, place: Place) -> int:
        if place.source is not None:
            self.copy(place.source, place.slot)
        self.contexts[place.slot] = self.contexts.get(place.slot, [])[: place.kept]
        self.prompts.pop(place.slot, None)
        return place.kept

    def copy(self, source: int, slot: int) -> None:
        self.contexts[slot] = list(self.contexts[source])
        self.prompts[slot] = list(self.contexts[source])


class SpelledOut:
    """A grammar of one text."""

    def __init__(self, text: bytes) -> None:
        self._rest = text

    @property
    def is_over(self) -> bool:
        return not self._rest

    def restrict(self, scores: Scores) -> bool:
        allowed = self._rest[0]
        scores[:allowed] = scores[allowed + 1 :] = -np.inf
        return bool(np.isfinite(scores[allowed]))

    def copy(self) -> SpelledOut:
        return SpelledOut(self._rest)

    def accept(self, token: int) -> bool:
        is_allowed = not self.is_over and token == self._rest[0]
        self._rest = self._rest[1:]
        return is_allowed


if __name__ == "__main__":
    child.main(EchoModel)
