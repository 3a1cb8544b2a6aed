"""Embedder: texts in, vectors out, several at a time; or pairs of texts, and how well they fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import llama_cpp
from numpy.typing import NDArray

from node.engine.errors import ModelNotLoadable
from node.engine.llama.batch import Batch
from node.engine.llama.library import SELF_TEST_TOKENS, ErrorLog, metadata, physical_cores
from node.engine.llama.vocabulary import Vocabulary
from node.engine.wire import EngineParams, ModelFacts, PromptPart
from node.models.gguf_header import BadHeader, read_gguf_header
from node.models.ranking_head import has_ranking_head

TEXT_SIZE_DEFAULT = 2048
"""Tokens of one text, where the model was trained for more: a batch holds one text at least, whole."""

TEXTS_MAX = 32
"""Texts in one batch: more than fit its tokens, mostly."""

_BATCH_MIN = 512
"""Tokens in one batch; llama.cpp's own size of one pass."""

_RANK = llama_cpp.LLAMA_POOLING_TYPE_RANK


def is_embedder(weights: Any) -> bool:  # noqa: ANN401 (a ctypes pointer)
    """Whether the file says how its model pools a text's tokens: only those that embed or rank do."""
    pooling = metadata(weights, "{arch}.pooling_type")
    return pooling.isdecimal() and int(pooling) > llama_cpp.LLAMA_POOLING_TYPE_NONE


def _require_head(path: Path) -> None:
    try:
        header = read_gguf_header(path)
    except (BadHeader, OSError):
        return  # llama.cpp could read it, so nobody is refused for what we cannot see.
    if not has_ranking_head(header):
        raise ModelNotLoadable(
            "its metadata says that it ranks, but it has no classification head (cls.output): convert it anew"
        )


class Embedder:
    """One loaded model.

    Raises:
      ModelNotLoadable: there is no room for its context, or it says that it ranks and cannot.
    """

    def __init__(self, params: EngineParams, weights: Any, errors: ErrorLog) -> None:  # noqa: ANN401 (a ctypes pointer)
        self._model = weights
        trained = llama_cpp.llama_model_n_ctx_train(weights)
        wanted = params.context_size or min(trained, TEXT_SIZE_DEFAULT)
        context_size = min(wanted, trained) if trained > 0 else wanted
        self.batch_max = max(context_size, _BATCH_MIN)
        """Tokens in one batch."""
        self.texts_max = TEXTS_MAX
        self._context = self._new_context(params, errors)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = Batch(self.batch_max)
        self._is_ranker = llama_cpp.llama_pooling_type(self._context) == _RANK
        if self._is_ranker:
            _require_head(Path(params.path))
        self._width = 1 if self._is_ranker else llama_cpp.llama_model_n_embd(weights)
        self._vocabulary = vocabulary = Vocabulary(weights)
        self.bos, self.adds_bos, self.infill = vocabulary.bos, vocabulary.adds_bos, None
        self.token_size_max = vocabulary.token_size_max
        self.facts = ModelFacts(
            context_size=context_size,
            vocab_size=vocabulary.size,
            chat_template=None,
            bos=vocabulary.text(vocabulary.bos),
            eos=vocabulary.text(vocabulary.eos),
            special_tokens=tuple(vocabulary.special.values()),
            special_ids=tuple(vocabulary.special),
            capabilities=("rerank",) if self._is_ranker else ("embeddings",),
        )

    def _new_context(self, params: EngineParams, errors: ErrorLog) -> Any:  # noqa: ANN401 (a ctypes pointer)
        options = llama_cpp.llama_context_default_params()
        options.embeddings = True
        options.n_ctx = self.batch_max
        options.kv_unified = True
        options.n_seq_max = self.texts_max
        # Tokens of one text see each other both ways, so it must go through in one pass. More would abort.
        options.n_batch = options.n_ubatch = options.n_outputs_max = self.batch_max
        options.n_threads = options.n_threads_batch = params.threads or physical_cores()
        context = llama_cpp.llama_init_from_model(self._model, options)
        if not context:
            raise ModelNotLoadable(errors.cause("llama.cpp cannot make a context"))
        return context

    def self_test(self, clock: Callable[[], float]) -> float:
        """Embed a short text, then one token, and return how many seconds the token took.

        Raises:
          ModelNotLoadable: it computes, but not numbers.
        """
        token = self.bos or 0
        self.embed([[token] * SELF_TEST_TOKENS])
        began = clock()
        [vector] = self.embed([[token]])
        if not np.isfinite(vector).all():
            raise ModelNotLoadable("the file is damaged: the model computes no numbers")
        return clock() - began

    def tokenize(self, part: PromptPart) -> list[int]:
        """The token ids of `part`, without a first or last token of the model's own."""
        return self._vocabulary.tokenize(part)

    def piece(self, token: int) -> bytes:
        """The bytes `token` stands for; none for a control token."""
        return self._vocabulary.piece(token)

    def whole(self, part: PromptPart) -> list[int]:
        """The token ids of `part`, with those around it that the model was trained with."""
        return self._vocabulary.tokenize(part, adds_special=True)

    def paired(self, query: Sequence[int], document: Sequence[int]) -> list[int]:
        """A question and what may answer it, as one text, as llama.cpp's own server puts them together."""
        vocabulary = self._vocabulary
        end = vocabulary.eos if vocabulary.eos is not None else vocabulary.separator
        begin = [vocabulary.bos] if vocabulary.adds_bos else []
        ends = [end] if vocabulary.adds_eos else []
        between = [vocabulary.separator] if vocabulary.adds_separator else []
        whole = (*begin, *query, *ends, *between, *document, *ends)
        return [token for token in whole if token is not None]

    def embed(self, texts: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """A vector of length 1 for each of `texts`, or the number that a ranker gives it.

        Raises:
          RuntimeError: the context is no longer what we think it is. The process should end.
        """
        assert len(texts) <= self.texts_max
        batch = self._batch
        batch.clear()
        for number, text in enumerate(texts):
            batch.add(number, 0, text, outputs=len(text))
        if self._memory:
            llama_cpp.llama_memory_clear(self._memory, True)
        status = llama_cpp.llama_decode(self._context, batch.raw)
        if status != 0:
            raise RuntimeError(
                f"llama_decode returned {status} for {len(batch)} tokens of {len(texts)} texts"
            )
        return [self._vector(number) for number in range(len(texts))]

    def _vector(self, number: int) -> NDArray[np.float32]:
        pointer = llama_cpp.llama_get_embeddings_seq(self._context, number)
        assert pointer, "no output was asked for of that text"
        vector = np.ctypeslib.as_array(pointer, shape=(self._width,)).astype(np.float32)
        length = float(np.linalg.norm(vector))
        return vector if self._is_ranker or length == 0 else vector / np.float32(length)
