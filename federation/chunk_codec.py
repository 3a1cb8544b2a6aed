"""A `Chunk` as fields of a map, and back.

There is one for almost every token, so what it does not have is not said. Pieces of calls
and probabilities are lists without names, which grow at their end.
"""

from __future__ import annotations

from typing import Any, get_args

from federation.backend import Chunk, FinishReason, TokenLogprob, ToolCallDelta
from federation.infer import NAME_LENGTH_MAX, TOKEN_ID_MAX
from federation.request_limits import INPUTS_MAX, TOOL_CALLS_MAX, TOP_LOGPROBS_MAX
from p2p.errors import BadFrame
from p2p.fields import Fields

_LENGTH_MAX = 64 * 1024
"""Characters of a text; the longest token has 256 bytes, the longest text held back 1024 characters."""
_TOKENS_MAX = 4096
"""Token ids, likewise far above what an honest worker sends."""
_CALL_PIECES_MAX = 64
"""Pieces of calls: an honest worker sends at most sixteen, since each counts in the size of a chunk."""
_TOKEN_SIZE_MAX = 1024
"""Bytes that one token stands for: four times the longest there is."""
_LOGPROB_MIN, _LOGPROB_MAX = -1e6, 1.0
"""Any logarithm of a probability; rounding may put a certain token slightly above 0."""
_VECTOR_SIZE_MAX = 64 * 1024
"""Bytes of a piece of a vector, sixteen times what an honest worker sends."""
_FLOAT_SIZE = 4
_FINISH_REASONS: tuple[FinishReason, ...] = get_args(FinishReason)


def encode_chunk(chunk: Chunk) -> dict[str, Any]:
    """`chunk` as a map. Ids and text are always there, because the first version's fronts want them."""
    said: dict[str, Any] = {"choice": chunk.choice, "token_ids": chunk.token_ids, "text": chunk.text}
    if chunk.reasoning:
        said["reasoning"] = chunk.reasoning
    if chunk.tool_calls:
        said["tool_calls"] = [(call.index, call.id, call.name, call.arguments) for call in chunk.tool_calls]
    if chunk.logprobs:
        said["logprobs"] = [_logprob_row(each) for each in chunk.logprobs]
    if chunk.vector:
        said["vector"] = chunk.vector
    if chunk.finish_reason:
        said["finish_reason"] = chunk.finish_reason
    if chunk.is_cut:
        said["is_cut"] = True
    return said


def decode_chunk_untrusted(fields: Fields) -> Chunk:
    """The chunk in `fields`.

    Raises:
      BadFrame: there is none.
    """
    return Chunk(
        # The number of a choice or of an input: of inputs there may be more.
        choice=fields.whole("choice", 0, INPUTS_MAX - 1),
        token_ids=fields.wholes("token_ids", _TOKENS_MAX, TOKEN_ID_MAX),
        text=fields.text("text", _LENGTH_MAX),
        reasoning=fields.text("reasoning", _LENGTH_MAX) if "reasoning" in fields else "",
        tool_calls=_tool_calls(fields) if "tool_calls" in fields else (),
        logprobs=_logprobs(fields) if "logprobs" in fields else (),
        vector=_vector(fields) if "vector" in fields else b"",
        finish_reason=optional_finish_reason(fields),
        is_cut="is_cut" in fields and fields.flag("is_cut"),
    )


def finish_reason(word: str) -> FinishReason:
    """One that only newer nodes know is a "stop": all of the choice is here, and its client must be told
    one of the words there are."""
    return next((known for known in _FINISH_REASONS if known == word), "stop")


def optional_finish_reason(fields: Fields) -> FinishReason | None:
    """Why the choice in `fields` ended, if it has.

    Raises:
      BadFrame: it is no word.
    """
    if "finish_reason" not in fields:
        return None
    return finish_reason(fields.text("finish_reason", NAME_LENGTH_MAX))


def _logprob_row(logprob: TokenLogprob) -> list[Any]:
    row: list[Any] = [logprob.token, _said(logprob.logprob)]
    return [*row, [(token, _said(each)) for token, each in logprob.top]] if logprob.top else row


def _said(logprob: float) -> float:
    """What cannot happen has a probability of 0, and no finite logarithm."""
    return max(logprob, _LOGPROB_MIN)


def _tool_calls(fields: Fields) -> tuple[ToolCallDelta, ...]:
    return tuple(
        ToolCallDelta(
            index=call.whole("index", 0, TOOL_CALLS_MAX - 1),
            id=call.text("id", NAME_LENGTH_MAX),
            name=call.text("name", NAME_LENGTH_MAX),
            arguments=call.text("arguments", _LENGTH_MAX),
        )
        for call in fields.rows("tool_calls", _CALL_PIECES_MAX, ("index", "id", "name", "arguments"))
    )


def _logprobs(fields: Fields) -> tuple[TokenLogprob, ...]:
    rows = fields.rows("logprobs", _TOKENS_MAX, ("token", "logprob"), ("top",))
    return tuple(
        TokenLogprob(
            *_likelihood(row),
            top=tuple(map(_likelihood, row.rows("top", TOP_LOGPROBS_MAX, ("token", "logprob"))))
            if "top" in row
            else (),
        )
        for row in rows
    )


def _likelihood(row: Fields) -> tuple[bytes, float]:
    return row.data_up_to("token", _TOKEN_SIZE_MAX), row.number("logprob", _LOGPROB_MIN, _LOGPROB_MAX)


def _vector(fields: Fields) -> bytes:
    vector = fields.data_up_to("vector", _VECTOR_SIZE_MAX)
    if len(vector) % _FLOAT_SIZE:
        raise BadFrame(f"vector has {len(vector)} bytes, which are not whole numbers of {_FLOAT_SIZE}")
    return vector
