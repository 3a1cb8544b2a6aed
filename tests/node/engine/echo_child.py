"""An engine child that pretends: its model says the prompt again, byte by byte.

Run as a script in place of `node.engine.child`, it goes wrong where it is told to:
in `path` (crash:load, crash:self_test, crash:extra_bufts, refuse:REASON), or by what
a prompt contains (CRASH while it is decoded, HANG for ever).
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence

from federation.backend import Sampling
from node.engine import child
from node.engine.errors import ModelNotLoadable
from node.engine.scheduler import Span
from node.engine.wire import EngineParams, ModelFacts, PromptPart

END = 256
BOS = 257


class EchoModel:
    """Its tokens are bytes. Special texts: `<bos>` and `<end>`."""

    def __init__(self, params: EngineParams, *, bos: int | None = BOS, adds_bos: bool = False) -> None:
        self.bos = bos
        self.adds_bos = adds_bos
        self.token_size_max = 8
        self.batches: list[list[Span]] = []
        self.contexts: dict[int, list[int]] = {}
        self.samplers_open = 0
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

    def is_end(self, token: int) -> bool:
        return token == END

    def new_sampler(self, sampling: Sampling, *, ignore_eos: bool) -> EchoSampler:
        self.samplers_open += 1
        return EchoSampler(self, ignore_eos=ignore_eos)

    def decode(self, spans: Sequence[Span]) -> list[int]:
        self.batches.append(list(spans))
        for span in spans:
            context = self.contexts.setdefault(span.slot, [])
            assert span.position == len(context), "a gap, or a slot that was not emptied"
            context += span.tokens
            if b"CRASH" in bytes(token % 256 for token in context):
                os.abort()
            if b"HANG" in bytes(token % 256 for token in context):
                threading.Event().wait()
        return list(range(len(spans)))

    def forget(self, slot: int) -> None:
        self.contexts.pop(slot, None)


class EchoSampler:
    def __init__(self, model: EchoModel, *, ignore_eos: bool) -> None:
        self._model = model
        self._ignore_eos = ignore_eos
        self._answer: Iterator[int] | None = None

    def sample(self, row: int) -> int:
        if self._answer is None:
            said = list(self._model.contexts[self._model.batches[-1][row].slot])
            self._answer = itertools.cycle(said) if self._ignore_eos else iter([*said, END])
        return next(self._answer)

    def close(self) -> None:
        self._model.samplers_open -= 1


if __name__ == "__main__":
    child.main(EchoModel)
