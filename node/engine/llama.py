"""llama.cpp, as much of it as an engine needs. The only module that imports `llama_cpp`.

Each function here knows which calls abort the process when misused, and checks first.
One thread only: two threads in one context crash.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import psutil
from llama_cpp import llama_cpp
from llama_cpp._ggml import libggml as _ggml

from node.engine.constraint import Grammars, GrammarState
from node.engine.errors import ModelNotLoadable
from node.engine.load_problem import load_problem
from node.engine.sampling import Scores
from node.engine.scheduler import BATCH_MAX, Span
from node.engine.slots import Place
from node.engine.wire import EngineParams, ModelFacts, PromptPart

CONTEXT_SIZE_DEFAULT = 4096
"""A conversation with some history. All of it, for every slot, is allocated at the start."""
SLOTS_MAX = 256
"""Of llama.cpp (LLAMA_MAX_SEQ)."""

_SPECIAL_TOKENS_MAX = 16_384
"""No known vocabulary has half as many."""
_ERROR_LEVEL = 4
"""GGML_LOG_LEVEL_ERROR; `llama_cpp._logger` still counts from before DEBUG became 1."""

_GPU_TYPES = (1, 2)
"""GGML_BACKEND_DEVICE_TYPE_GPU and _IGPU."""

_CACHE_TYPES = {
    "f16": llama_cpp.GGML_TYPE_F16,
    "f32": llama_cpp.GGML_TYPE_F32,
    "q8_0": llama_cpp.GGML_TYPE_Q8_0,
}


class _ErrorLog:
    """The first error line of llama.cpp, which is the cause: later ones are its consequences."""

    def __init__(self) -> None:
        self._line = ""
        # Kept for ever: the library calls it until the process ends.
        self._callback = llama_cpp.llama_log_callback(self._on_line)
        llama_cpp.llama_log_set(self._callback, None)

    def _on_line(self, level: int, text: bytes, _user_data: object) -> None:
        if level == _ERROR_LEVEL and not self._line:
            self._line = text.decode(errors="replace").strip()

    def cause(self, otherwise: str) -> str:
        """Why it failed, for a person; `otherwise` where llama.cpp did not say."""
        return load_problem(self._line, otherwise) if self._line else otherwise


class LlamaModel:
    """One loaded model with room for `slots` sequences.

    Raises:
      ModelNotLoadable: the file is missing, damaged, unknown or too large; the text says which.
    """

    def __init__(self, params: EngineParams) -> None:
        if not 0 < params.slots <= SLOTS_MAX:
            raise ModelNotLoadable(f"{params.slots} slots; 1 to {SLOTS_MAX} are possible")
        self._errors = _ErrorLog()
        self._model = self._load(params)
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self._vocab_size: int = llama_cpp.llama_vocab_n_tokens(self._vocab)
        trained = llama_cpp.llama_model_n_ctx_train(self._model)
        wanted = params.context_size or CONTEXT_SIZE_DEFAULT
        context_size = min(wanted, trained) if trained > 0 else wanted
        self._context = self._new_context(params, context_size)
        self._memory = llama_cpp.llama_get_memory(self._context)
        if not self._memory or llama_cpp.llama_model_has_encoder(self._model):
            raise ModelNotLoadable("it is not a model that generates text")
        self._batch = llama_cpp.llama_batch_init(BATCH_MAX, 0, 1)
        bos = llama_cpp.llama_vocab_bos(self._vocab)
        self.bos: int | None = bos if bos >= 0 else None
        self.adds_bos = self.bos is not None and bool(llama_cpp.llama_vocab_get_add_bos(self._vocab))
        self._special = self._special_tokens()
        self.ends = self._end_tokens()
        self.infill = self._infill_tokens()
        self.can_rewind = not (
            llama_cpp.llama_model_is_recurrent(self._model) or llama_cpp.llama_model_is_hybrid(self._model)
        )
        self.token_size_max = self._longest_token_text()
        self.facts = self._facts(context_size)
        self._grammars = Grammars(
            lambda: [self.piece(token) for token in range(self._vocab_size)],
            self._special,
            sorted(self.ends),
            lambda text: self.tokenize(PromptPart(text, parse_special=False)),
        )

    def _load(self, params: EngineParams) -> Any:  # noqa: ANN401 (a ctypes pointer)
        options = llama_cpp.llama_model_default_params()
        options.n_gpu_layers = params.gpu_layers
        options.use_extra_bufts = params.use_extra_bufts
        # LLAMA_LOAD_MODE: none, mmap, mlock, both.
        options.load_mode = int(params.mmap) + 2 * int(params.mlock)
        model = llama_cpp.llama_model_load_from_file(os.fsencode(params.path), options)
        if not model:
            raise ModelNotLoadable(self._errors.cause("llama.cpp cannot load the file"))
        return model

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
            params.threads if params.threads > 0 else _physical_cores()
        )
        options.type_k = options.type_v = _CACHE_TYPES[params.cache_type]
        context = llama_cpp.llama_init_from_model(self._model, options)
        if not context:
            cause = self._errors.cause("llama.cpp cannot make a context")
            raise ModelNotLoadable(f"no room for {params.slots} contexts of {context_size} tokens: {cause}")
        return context

    def _special_tokens(self) -> list[int]:
        special = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
        attributes = llama_cpp.llama_vocab_get_attr
        found = [token for token in range(self._vocab_size) if attributes(self._vocab, token) & special]
        return found[:_SPECIAL_TOKENS_MAX]

    def _end_tokens(self) -> frozenset[int]:
        """With which the model ends an answer."""
        named = {llama_cpp.llama_vocab_eos(self._vocab), llama_cpp.llama_vocab_eot(self._vocab)}
        candidates = {token for token in (*self._special, *named) if token >= 0}
        return frozenset(token for token in candidates if llama_cpp.llama_vocab_is_eog(self._vocab, token))

    def _infill_tokens(self) -> tuple[int, int, int] | None:
        """Before a prefix, before a suffix, and before what comes between."""
        tokens = (
            llama_cpp.llama_vocab_fim_pre(self._vocab),
            llama_cpp.llama_vocab_fim_suf(self._vocab),
            llama_cpp.llama_vocab_fim_mid(self._vocab),
        )
        return tokens if min(tokens) >= 0 else None

    def _longest_token_text(self) -> int:
        """Bytes. A token's text is never shorter than the bytes it stands for."""
        text = llama_cpp.llama_vocab_get_text
        return max(len(text(self._vocab, token)) for token in range(self._vocab_size))

    def _facts(self, context_size: int) -> ModelFacts:
        template = llama_cpp.llama_model_chat_template(self._model, None)
        special = {token: text for token in self._special if (text := self._token_text(token))}
        return ModelFacts(
            context_size=context_size,
            vocab_size=self._vocab_size,
            chat_template=template.decode(errors="replace") if template else None,
            bos=self._token_text(llama_cpp.llama_vocab_bos(self._vocab)),
            eos=self._token_text(llama_cpp.llama_vocab_eos(self._vocab)),
            special_tokens=tuple(special.values()),
            special_ids=tuple(special),
        )

    def _token_text(self, token: int) -> str:
        if token < 0:
            return ""
        text: bytes = llama_cpp.llama_vocab_get_text(self._vocab, token)
        return text.decode(errors="replace")

    def self_test(self, clock: Callable[[], float]) -> float:
        """Decode twice, and return how many seconds the second one took.

        The first also reads the weights in. On some machines the process dies here (see `EngineParams`).

        Raises:
          ModelNotLoadable: it computes, but not numbers.
        """
        token = self.bos or 0
        self.decode([Span((0, 0), slot=0, position=0, tokens=(token,), wants_output=True)])
        began = clock()
        [row] = self.decode([Span((0, 0), slot=0, position=1, tokens=(token,), wants_output=True)])
        seconds = clock() - began
        is_broken = bool(np.isnan(self.scores(row)).any())
        self.forget(0)
        if is_broken:
            raise ModelNotLoadable("the file is damaged: the model computes no numbers")
        return seconds

    def tokenize(self, part: PromptPart) -> list[int]:
        """The token ids of `part`, without a first or last token of the model's own."""
        text = part.text.encode()
        count_max = len(text) + 2  # No token is empty; some vocabularies put a space in front.
        tokens = (llama_cpp.llama_token * count_max)()
        count = llama_cpp.llama_tokenize(
            self._vocab, text, len(text), tokens, count_max, False, part.parse_special
        )
        assert count >= 0, "room for one token per byte was not enough"
        return list(tokens[:count])

    def piece(self, token: int) -> bytes:
        """The bytes `token` stands for; none for a control token."""
        assert 0 <= token < self._vocab_size
        buffer = ctypes.create_string_buffer(256)
        count = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
        if count < 0:
            buffer = ctypes.create_string_buffer(-count)
            count = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
        return buffer.raw[:count]

    def compile(self, grammar: str) -> GrammarState:
        """The beginning of `grammar`; see `constraint.py`."""
        return self._grammars.compile(grammar)

    def decode(self, spans: Sequence[Span]) -> list[int]:
        """Put `spans` into the context. Returns, for each, the row of its last token in this batch.

        Raises:
          RuntimeError: the context is no longer what we think it is. The process should end.
        """
        batch, rows = self._batch, []
        row = 0
        for span in spans:
            for offset, token in enumerate(span.tokens):
                batch.token[row] = token
                batch.pos[row] = span.position + offset
                batch.n_seq_id[row] = 1
                batch.seq_id[row][0] = span.slot
                batch.logits[row] = 0
                row += 1
            batch.logits[row - 1] = span.wants_output
            rows.append(row - 1)
        assert row <= BATCH_MAX, "a larger batch would abort the process"
        batch.n_tokens = row
        status = llama_cpp.llama_decode(self._context, batch)
        if status != 0:
            raise RuntimeError(f"llama_decode returned {status} for {row} tokens of {len(spans)} sequences")
        return rows

    def scores(self, row: int) -> Scores:
        """Of the token after `row` of the latest batch, until the next one. Not to be changed."""
        pointer = llama_cpp.llama_get_logits_ith(self._context, row)
        assert pointer, "no output was asked for in that row"
        return np.ctypeslib.as_array(pointer, shape=(self._vocab_size,))

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


def describe_build() -> dict[str, Any]:
    """What llama.cpp was built to compute with, and the GPUs it found.

    `llama_cpp` wraps none of these calls.
    """
    for function in (_ggml.ggml_backend_reg_get, _ggml.ggml_backend_dev_get):
        function.argtypes, function.restype = [ctypes.c_size_t], ctypes.c_void_p
    for function in (_ggml.ggml_backend_reg_name, _ggml.ggml_backend_dev_description):
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_char_p
    _ggml.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    backends = [_ggml.ggml_backend_reg_get(number) for number in range(_ggml.ggml_backend_reg_count())]
    devices = [_ggml.ggml_backend_dev_get(number) for number in range(_ggml.ggml_backend_dev_count())]
    gpus = [device for device in devices if _ggml.ggml_backend_dev_type(device) in _GPU_TYPES]
    return {
        "backends": [_ggml.ggml_backend_reg_name(backend).decode() for backend in backends],
        "gpus": [_ggml.ggml_backend_dev_description(gpu).decode() for gpu in gpus],
        "threads": _physical_cores(),
    }


def _physical_cores() -> int:
    """Hyperthreads share the units that do the work, so more threads than cores are slower."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or usable, usable))
