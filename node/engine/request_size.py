"""How much a request may ask of an engine at once, before it is sent there.

The node's event loop carries nobody's tokens while it packs and sends one: 300,000 ids take it 16 ms.
"""

from __future__ import annotations

from node.engine.errors import PromptRefused, PromptTooLong
from node.engine.lookup import require_short_lookup
from node.engine.wire import EmbedRequest, EngineRequest, GenerateRequest, ModelFacts

INPUT_IDS_MAX = 300_000
"""Token ids in all inputs of one request: OpenAI's own bound on their tokens."""


def require_short(request: EngineRequest, facts: ModelFacts) -> None:
    """Nothing, if `request` is not longer than its model could ever read.

    Raises:
      PromptTooLong, PromptRefused: it is; with the parameter to blame.
    """
    match request:
        case GenerateRequest():
            _require_short_prompt(request, facts.context_size)
        case EmbedRequest():
            _require_short_inputs(request, facts.context_size)
        case _:
            require_short_lookup(request)


def _require_short_prompt(request: GenerateRequest, context_size: int) -> None:
    # Each piece is a token at least.
    if len(request.prompt) > context_size:
        raise PromptTooLong(
            f"a prompt of {len(request.prompt)} pieces does not fit the context of {context_size} tokens",
            param="prompt",
        )
    delivered = request.resume.choices if request.resume else ()
    longest = max((len(each.token_ids) for each in delivered), default=0)
    if longest > context_size or len(delivered) > request.choices:
        raise PromptRefused("more was delivered than the request allows", param="resume")


def _require_short_inputs(request: EmbedRequest, context_size: int) -> None:
    sizes = [len(each) for each in request.inputs if isinstance(each, tuple)]
    longest = max(sizes, default=0)
    if longest > context_size:
        raise PromptTooLong(f"an input has {longest} tokens; the model reads {context_size}", param="input")
    if sum(sizes) > INPUT_IDS_MAX:
        raise PromptRefused(
            f"{sum(sizes)} token ids; all inputs may have {INPUT_IDS_MAX} together", param="input"
        )
