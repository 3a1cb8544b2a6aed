"""`/v1/tokenize` and `/v1/detokenize`, as llama-server has them: between text and a model's token ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from api import sse
from api.body_types import Items, ModelBody, Text, TokenId
from api.collected import CollectedAnswer
from federation.backend import Done, InferenceRequest, RequestId
from ledger.records import ModelName


class TokenizeBody(ModelBody):
    """Body of `/v1/tokenize`."""

    content: Text
    add_special: bool | None = None
    """With the tokens that begin and end a sequence."""

    not_yet: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "with_pieces": (None, False),
        "parse_special": (None, True),
        "add_special_tokens": (None, False),
    }
    elsewhere: ClassVar[Mapping[str, tuple[Any, ...]]] = {"messages": (None,), "prompt": (None,)}

    def inference_request(self, request_id: RequestId) -> InferenceRequest:
        """This body as a request for a backend.

        Raises:
          HttpError: 400 that names the parameter.
        """
        self.require_supported()
        return InferenceRequest(
            kind="tokenize",
            request_id=request_id,
            model=ModelName(self.model),
            prompt=self.content,
            adds_special=self.add_special is True,
            is_streamed=False,
        )


class DetokenizeBody(ModelBody):
    """Body of `/v1/detokenize`."""

    tokens: Items[TokenId]

    def inference_request(self, request_id: RequestId) -> InferenceRequest:
        """This body as a request for a backend."""
        return InferenceRequest(
            kind="detokenize",
            request_id=request_id,
            model=ModelName(self.model),
            prompt=tuple(self.tokens),
            is_streamed=False,
        )


class TokenizeShape:
    """`/v1/tokenize`."""

    def whole(self, collected: CollectedAnswer, done: Done) -> Iterable[str]:
        """All ids."""
        del done
        [choice] = collected.choices(1)
        yield sse.dumps({"tokens": choice.token_ids})


class DetokenizeShape:
    """`/v1/detokenize`."""

    def whole(self, collected: CollectedAnswer, done: Done) -> Iterable[str]:
        """All of the text."""
        del done
        [choice] = collected.choices(1)
        yield sse.dumps({"content": choice.text})
