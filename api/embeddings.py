"""`/v1/embeddings` as OpenAI has it: a vector for each text."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from api import sse
from api.body_types import ModelBody, Texts, separate_texts
from api.collected import CollectedAnswer
from api.errors import HttpError
from api.vectors import FLOAT_SIZE, number_words, numbers_in, shortened, vectors_of
from federation.backend import Done, InferenceRequest, RequestId
from federation.errors import BadRequest
from federation.request_limits import INPUTS_MAX
from ledger.records import ModelName

_DIMENSIONS_MAX = 2**16
"""Numbers in a vector; the widest models there are have a quarter of that."""


class EmbeddingsBody(ModelBody):
    """Body of `/v1/embeddings`."""

    input: Texts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=_DIMENSIONS_MAX)] | None = None
    """Only so many numbers of each vector, scaled to the length of 1. For models that were trained for it."""

    not_yet: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "truncate_prompt_tokens": (None,),
        "late_chunking": (None, False),
        "normalized": (None, True),
    }
    elsewhere: ClassVar[Mapping[str, tuple[Any, ...]]] = {"messages": (None,), "prompt": (None,)}

    def inference_request(self, request_id: RequestId) -> InferenceRequest:
        """This body as a request for a backend.

        Raises:
          HttpError: 400 that names the parameter.
        """
        self.require_supported()
        inputs = separate_texts(self.input)
        if not inputs or not all(inputs):
            raise HttpError(400, "`input`: there is nothing to embed in it, or in one of it", param="input")
        if len(inputs) > INPUTS_MAX:
            raise HttpError(
                400, f"`input`: {len(inputs)} texts are in it, {INPUTS_MAX} are allowed", param="input"
            )
        return InferenceRequest(
            kind="embeddings",
            request_id=request_id,
            model=ModelName(self.model),
            inputs=tuple(inputs),
            is_streamed=False,
        )


class EmbeddingsShape:
    """`/v1/embeddings`, of `count` inputs."""

    def __init__(self, body: EmbeddingsBody, count: int) -> None:
        self._body = body
        self._count = count

    def whole(self, collected: CollectedAnswer, done: Done) -> Iterable[str]:
        """The answer, a piece for each vector."""
        tokens = done.usage.prompt_tokens
        vectors = vectors_of(collected, self._count)
        yield f'{{"object":"list","model":{sse.dumps(self._body.model)},"data":['
        for index, vector in enumerate(vectors):
            comma = "," if index else ""
            yield f'{comma}{{"object":"embedding","index":{index},"embedding":{self._words(vector)}}}'
        yield f'],"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}'

    def _words(self, vector: bytes) -> str:
        wanted = self._body.dimensions
        if wanted is not None:
            size = len(vector) // FLOAT_SIZE
            if wanted > size:
                raise BadRequest(f"the vectors of this model have {size} numbers", param="dimensions")
            vector = shortened(vector, wanted)
        numbers = numbers_in(vector)
        if self._body.encoding_format == "base64":
            return f'"{base64.b64encode(vector).decode()}"'
        return number_words(numbers)
