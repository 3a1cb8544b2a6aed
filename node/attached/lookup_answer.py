"""Answers that nobody streams: vectors, scores, and token ids."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterator

from federation.backend import Chunk, InferenceRequest
from node.attached.errors import BadAnswer
from node.attached.json_fields import JsonFields, finite, parse_json
from node.attached.request_body import Question

_TOKEN_ID_MAX = 2**31 - 1
_TOKENS_MAX = 2**24
"""What a frame to a peer carries."""
_FLOAT_MAX = 3.4028234663852886e38
"""Of 32 bits."""


def read_vectors(body: bytes, question: Question) -> tuple[list[Chunk], int]:
    """The vector of each of the inputs of `question`, in their order, and how many tokens those had.

    Raises:
      BadAnswer: some are missing, or are no vectors.
    """
    answer = JsonFields(parse_json(body), "answer")
    vectors: dict[int, bytes] = {}
    for position, row in enumerate(answer.rows("data")):
        index = row.count("index") if "index" in row else position
        vectors[index] = _vector(row.raw("embedding"))
    return _in_order(vectors, question), _tokens_of(answer)


def read_scores(body: bytes, question: Question) -> tuple[list[Chunk], int]:
    """The same of rerank: vectors of one number.

    Raises:
      BadAnswer: some are missing, or are no scores.
    """
    answer = JsonFields(parse_json(body), "answer")
    scores = {
        row.count("index"): _vector(
            [row.raw("relevance_score") if "relevance_score" in row else row.raw("score")]
        )
        for row in answer.rows("results")
    }
    return _in_order(scores, question), _tokens_of(answer)


def read_lookup(body: bytes, request: InferenceRequest) -> Chunk:
    """Token ids, or the text of some.

    Raises:
      BadAnswer: there are none.
    """
    answer = JsonFields(parse_json(body), "answer")
    if request.kind == "detokenize":
        # "content" is llama-server's, "prompt" vLLM's.
        name = "content" if "content" in answer else "prompt"
        if name not in answer:
            raise BadAnswer("its answer has no text")
        return Chunk(0, (), answer.text(name))
    ids = tuple(_token_ids(answer.items("tokens")))
    if not ids and "tokens" not in answer:
        raise BadAnswer("its answer has no tokens")
    return Chunk(0, ids, "")


def _in_order(vectors: dict[int, bytes], question: Question) -> list[Chunk]:
    if sorted(vectors) != list(range(question.inputs)):
        raise BadAnswer(f"it answered {len(vectors)} of {question.inputs} inputs, or others")
    return [Chunk(question.first_input + index, (), "", vector=vectors[index]) for index in sorted(vectors)]


def _vector(value: object) -> bytes:
    if isinstance(value, str):
        try:
            vector = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadAnswer("it sent a vector that is not base64") from error
        if not vector or len(vector) % 4:
            raise BadAnswer("it sent a vector that breaks off within a number")
        return vector
    if not isinstance(value, list) or not value:
        raise BadAnswer("it sent a vector that is not a list of numbers")
    numbers = [finite(each, "vector") for each in value]
    if any(abs(number) > _FLOAT_MAX for number in numbers):
        raise BadAnswer("it sent a vector with numbers that do not fit 32 bits")
    return struct.pack(f"<{len(numbers)}f", *numbers)


def _token_ids(items: list[object]) -> Iterator[int]:
    if len(items) > _TOKENS_MAX:
        raise BadAnswer(f"it sent more than {_TOKENS_MAX} tokens")
    for each in items:
        if isinstance(each, bool) or not isinstance(each, int) or not 0 <= each <= _TOKEN_ID_MAX:
            raise BadAnswer("it sent a token that is not an id")
        yield each


def _tokens_of(answer: JsonFields) -> int:
    usage = answer.fields("usage")
    return usage.count("prompt_tokens") or usage.count("total_tokens")
