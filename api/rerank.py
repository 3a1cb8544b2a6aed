"""`/v1/rerank` as Jina has it: documents in the order in which they answer a query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from api import sse
from api.body_types import Items, ModelBody, Text
from api.collected import CollectedAnswer
from api.vectors import numbers_in, vectors_of
from federation.backend import Done, InferenceRequest, RequestId
from federation.errors import Misbehaved
from federation.request_limits import INPUTS_MAX
from ledger.records import ModelName


class Document(BaseModel):
    """A document that is spelt as an object."""

    model_config = ConfigDict(strict=True)

    text: Text


class RerankBody(ModelBody):
    """Body of `/v1/rerank`."""

    query: Annotated[Text, Field(min_length=1)]
    documents: Annotated[Items[Text | Document], Field(min_length=1, max_length=INPUTS_MAX)]
    top_n: Annotated[int, Field(ge=1)] | None = None
    """How many to return, the best ones; all, if there are fewer."""
    return_documents: bool | None = None
    """Their texts are returned too, unless this is false."""

    not_yet: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "truncate_prompt_tokens": (None,),
        "max_tokens_per_doc": (None,),
        "max_chunks_per_doc": (None,),
        "rank_fields": (None, []),
    }

    def texts(self) -> tuple[str, ...]:
        """The documents, as text."""
        return tuple(each if isinstance(each, str) else each.text for each in self.documents)

    def inference_request(self, request_id: RequestId) -> InferenceRequest:
        """This body as a request for a backend.

        Raises:
          HttpError: 400 that names the parameter.
        """
        self.require_supported()
        return InferenceRequest(
            kind="rerank",
            request_id=request_id,
            model=ModelName(self.model),
            prompt=self.query,
            inputs=self.texts(),
            is_streamed=False,
        )


class RerankShape:
    """`/v1/rerank`."""

    def __init__(self, body: RerankBody) -> None:
        self._body = body

    def whole(self, collected: CollectedAnswer, done: Done) -> Iterable[str]:
        """The answer, the best document first; of equals the earlier one."""
        texts = self._body.texts()
        scores = [_score(vector) for vector in vectors_of(collected, len(texts))]
        best_first = sorted(range(len(texts)), key=lambda index: -scores[index])[: self._body.top_n]
        tokens = done.usage.prompt_tokens
        yield sse.dumps(
            {
                "object": "list",
                "model": self._body.model,
                "results": [self._result(index, scores[index], texts[index]) for index in best_first],
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )

    def _result(self, index: int, score: float, text: str) -> dict[str, Any]:
        result: dict[str, Any] = {"index": index, "relevance_score": score}
        return result if self._body.return_documents is False else {**result, "document": {"text": text}}


def _score(vector: bytes) -> float:
    numbers = numbers_in(vector)
    if len(numbers) != 1:
        raise Misbehaved("the answer has more than a score for a document")
    return float(f"{numbers[0]:.9g}")
