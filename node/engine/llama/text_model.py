"""Text model: sequences in one context, decoded together."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from llama_cpp import llama_cpp

from node.engine.constraint import GrammarState
from node.engine.errors import ModelNotLoadable
from node.engine.llama.batch import Batch
from node.engine.llama.library import SELF_TEST_TOKENS, ErrorLog, physical_cores
from node.engine.llama.vocabulary import Vocabulary
from node.engine.sampling import Scores
from node.engine.scheduler import BATCH_MAX, Span
from node.engine.slots import Place
from node.engine.wire import CacheType, EngineParams, FlashAttention, ModelFacts, PromptPart

CONTEXT_SIZE_DEFAULT = 4096
"""A conversation with some history. All of it, for every slot, is allocated at the start."""

_CACHE_TYPES: Mapping[CacheType, int] = {
    "f32": llama_cpp.GGML_TYPE_F32,
    "f16": llama_cpp.GGML_TYPE_F16,
    "q8_0": llama_cpp.GGML_TYPE_Q8_0,
    "q4_0": llama_cpp.GGML_TYPE_Q4_0,
}
_FLASH_ATTENTION: Mapping[FlashAttention, int] = {
    "auto": llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "on": llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "off": llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}


class TextModel:
    """One loaded model with room for `slots` sequences.

    Raises:
      ModelNotLoadable: it does not generate text, or there is no room for its context.
    """

    def __init__(self, params: EngineParams, weights: Any, errors: ErrorLog) -> None:  # noqa: ANN401 (a ctypes pointer)
        self._model = weights
        self._errors = errors
        trained = llama_cpp.llama_model_n_ctx_train(self._model)
        wanted = params.context_size or CONTEXT_SIZE_DEFAULT
        context_size = min(wanted, trained) if trained > 0 else wanted
        self._context = self._new_context(params, context_size)
        self._memory = llama_cpp.llama_get_memory(self._context)
        if not self._memory or llama_cpp.llama_model_has_encoder(self._model):
            raise ModelNotLoadable("it is not a model that generates text")
        self._batch = Batch(BATCH_MAX)
        self._slots = params.slots
        self._scores_at = 0
        self._scores: list[Scores] = []
        self._vocabulary = vocabulary = Vocabulary(weights)
        self._grammars = vocabulary.grammars()
        self.bos, self.adds_bos, self.ends = vocabulary.bos, vocabulary.adds_bos, vocabulary.ends
        self.infill, self.token_size_max = vocabulary.infill, vocabulary.token_size_max
        self.can_rewind = not (
            llama_cpp.llama_model_is_recurrent(self._model) or llama_cpp.llama_model_is_hybrid(self._model)
        )
        self.facts = self._facts(context_size)

    def _new_context(self, params: EngineParams, context_size: int) -> Any:  # noqa: ANN401 (a ctypes pointer)
        options = llama_cpp.llama_context_default_params()
        # The cells are shared by all sequences, so each can have its full length only if there are this many.
        options.n_ctx = context_size * params.slots
        options.kv_unified = True
        options.swa_full = True
        options.n_seq_max = params.slots
        # More outputs than this in one batch abort. The default has room for a whole batch of
        # them: half a gigabyte with a large vocabulary.
        options.n_outputs_max = params.slots
        options.n_batch = options.n_ubatch = BATCH_MAX
        options.n_threads = options.n_threads_batch = (
            params.threads if params.threads > 0 else physical_cores()
        )
        options.type_k = _CACHE_TYPES[params.cache_type_k]
        options.type_v = _CACHE_TYPES[params.cache_type_v]
        options.flash_attn_type = _FLASH_ATTENTION[params.flash_attention]
        context = llama_cpp.llama_init_from_model(self._model, options)
        if not context:
            cause = self._errors.cause("llama.cpp cannot make a context")
            raise ModelNotLoadable(f"no room for {params.slots} contexts of {context_size} tokens: {cause}")
        return context

    def _facts(self, context_size: int) -> ModelFacts:
        template = llama_cpp.llama_model_chat_template(self._model, None)
        vocabulary = self._vocabulary
        return ModelFacts(
            context_size=context_size,
            vocab_size=vocabulary.size,
            chat_template=template.decode(errors="replace") if template else None,
            bos=vocabulary.text(vocabulary.bos),
            eos=vocabulary.text(vocabulary.eos),
            special_tokens=tuple(vocabulary.special.values()),
            special_ids=tuple(vocabulary.special),
            capabilities=("chat", "completion"),
        )

    def self_test(self, clock: Callable[[], float]) -> float:
        """Read a short prompt and decode one token, and return how many seconds the token took.

        The prompt also reads the weights in. On some machines the process dies here (see `EngineParams`).

        Raises:
          ModelNotLoadable: it computes, but not numbers.
        """
        token = self.bos or 0
        prompt = (token,) * SELF_TEST_TOKENS
        self.decode([Span((0, 0), slot=0, position=0, tokens=prompt, wants_output=True)])
        began = clock()
        [scores] = self.decode(
            [Span((0, 0), slot=0, position=len(prompt), tokens=(token,), wants_output=True)]
        )
        seconds = clock() - began
        is_broken = bool(np.isnan(scores).any())
        self.forget(0)
        if is_broken:
            raise ModelNotLoadable("the file is damaged: the model computes no numbers")
        return seconds

    def tokenize(self, part: PromptPart) -> list[int]:
        """The token ids of `part`, without a first or last token of the model's own."""
        return self._vocabulary.tokenize(part)

    def piece(self, token: int) -> bytes:
        """The bytes `token` stands for; none for a control token."""
        return self._vocabulary.piece(token)

    def index_vocabulary(self) -> None:
        """Get ready for grammars; see `constraint.py`."""
        self._grammars.index()

    def compile(self, grammar: str) -> GrammarState:
        """The beginning of `grammar`; see `constraint.py`."""
        return self._grammars.compile(grammar)

    def decode(self, spans: Sequence[Span]) -> list[Scores]:
        """Put `spans` into the context. Returns the scores after each that wants output, in that order: good
        until the next call, and not to be changed.

        Raises:
          RuntimeError: the context is no longer what we think it is. The process should end.
        """
        batch = self._batch
        batch.clear()
        for span in spans:
            batch.add(span.slot, span.position, span.tokens, outputs=int(span.wants_output))
        status = llama_cpp.llama_decode(self._context, batch.raw)
        if status != 0:
            raise RuntimeError(
                f"llama_decode returned {status} for {len(batch)} tokens of {len(spans)} sequences"
            )
        return self._outputs()[: sum([span.wants_output for span in spans])]

    def _outputs(self) -> list[Scores]:
        """All rows of scores that llama.cpp has room for, those of the latest batch first."""
        logits = llama_cpp.llama_get_logits(self._context)
        assert logits, "a context that generates text has room for scores"
        address = ctypes.addressof(logits.contents)
        # It stays where it is, and making views takes as long as choosing a token.
        if address != self._scores_at:
            self._scores_at = address
            self._scores = list(np.ctypeslib.as_array(logits, (self._slots, self._vocabulary.size)))
        return self._scores

    def prepare(self, place: Place) -> int:
        """Leave in `place.slot` the beginning it is to keep. Returns how many tokens that is: 0 where the
        model cannot forget an end."""
        if place.source is not None:
            self.copy(place.source, place.slot)
        if place.kept and llama_cpp.llama_memory_seq_rm(self._memory, place.slot, place.kept, -1):
            return place.kept
        self.forget(place.slot)
        return 0

    def copy(self, source: int, slot: int) -> None:
        """What is in `source` is in `slot` too, and nothing else."""
        # Into a sequence that is not empty, parts of both would remain.
        self.forget(slot)
        llama_cpp.llama_memory_seq_cp(self._memory, source, slot, -1, -1)

    def forget(self, slot: int) -> None:
        """Empty the sequence `slot`."""
        llama_cpp.llama_memory_seq_rm(self._memory, slot, -1, -1)
