"""Dialects of OpenAI's API: what each program takes, and what it quietly leaves out.

Most servers ignore a parameter they do not know, and the client believes that it held. So what a
program does not take is refused here by name. The sets are from each one's own documentation and
source; of a program we do not know we believe that it takes OpenAI's own parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Feature: TypeAlias = Literal[
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
    "choices",
    "logprobs",
    "ignore_eos",
    "suffix",
    "prompt_ids",
    "tools",
    "required_tool",
    "named_tool",
    "parallel_tool_calls",
    "json_object",
    "json_schema",
    "gbnf",
]
"""What a request may ask for besides text and an end: not every server can."""

SchemaStyle: TypeAlias = Literal["response_format", "json_schema"]
"""How a schema is told: OpenAI's `{"type": "json_schema", "json_schema": {"schema": ...}}`, or llama-server's
field of that name, which completions have too."""

LookupStyle: TypeAlias = Literal["", "llama-server", "vllm"]
"""How to ask for token ids: `{"content"}` -> `{"tokens"}` or `{"prompt"}` -> `{"tokens"}`; "": not at all."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one program takes."""

    name: str
    """For people."""
    chat: frozenset[Feature]
    completion: frozenset[Feature]
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Parameters that it calls otherwise."""
    slots: int = 1
    """Answers it gives at once unless it was told otherwise, where it does not say."""
    has_slots_per_model: bool = False
    """Each model has so many; else all together have."""
    completion_schema_style: SchemaStyle = "response_format"
    lacks_plain_objects: bool = False
    """`json_object` it refuses: any object is told as a schema."""
    lacks_tool_names: bool = False
    """`tool_choice` takes words only, and ignores all else: a tool that must be called is told alone."""
    lookup_style: LookupStyle = ""
    takes_input_ids: bool = False
    """Token ids can be embedded."""
    has_rerank: bool = False
    ends_completions_early: bool = False
    """A completion has 16 tokens, as OpenAI's once had, unless the body says null."""
    reports_progress: bool = False
    """It tells how much of a prompt was read, if asked with `return_progress`."""
    counts_each_choice: bool = False
    """Of several choices each is counted by itself, as soon as it has ended; else all are at the end."""
    goes_on_with_chats: bool = False
    """It goes on in the last message, if asked with `continue_final_message`. A llama-server is asked whether
    it does (`survey.py`). Others may too, by their template or version, and who cannot would begin another
    one, so they are not asked."""
    alive_path: str = ""
    """Asked to see that it lives, where asking for its models would disturb those it answers."""
    answers_meanwhile: bool = True
    """It answers small questions while it generates: if it does not, it hangs."""


_OPENAI: frozenset[Feature] = frozenset(
    {
        "temperature",
        "top_p",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "seed",
        "choices",
        "logprobs",
        "json_object",
        "json_schema",
    }
)
_TOOLS: frozenset[Feature] = frozenset({"tools", "required_tool", "named_tool", "parallel_tool_calls"})
_OLLAMA: frozenset[Feature] = frozenset(
    {"temperature", "top_p", "presence_penalty", "frequency_penalty", "seed"}
)
_LM_STUDIO: frozenset[Feature] = _OLLAMA | {"top_k", "repeat_penalty", "logit_bias"}
_LLAMA_SERVER: frozenset[Feature] = _OPENAI | {
    "top_k",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "repeat_last_n",
    "ignore_eos",
    "gbnf",
}
_LLAMA_CPP_PYTHON: frozenset[Feature] = (_OPENAI - {"choices", "json_object", "json_schema"}) | {
    "top_k",
    "min_p",
    "repeat_penalty",
    "gbnf",
}
"""Of a streamed answer its schemas are not kept to: text goes on after the object, or it never ends."""

LLAMA_SERVER = Dialect(
    "llama-server",
    chat=_LLAMA_SERVER | _TOOLS,
    completion=_LLAMA_SERVER | {"prompt_ids"},
    completion_schema_style="json_schema",
    lacks_tool_names=True,
    lookup_style="llama-server",
    takes_input_ids=True,
    has_rerank=True,
    reports_progress=True,
    counts_each_choice=True,
)
"""llama.cpp's own (tools/server/README.md). It says how many slots it has."""

VLLM = Dialect(
    "vLLM",
    chat=_OPENAI | _TOOLS | {"top_k", "min_p", "repeat_penalty", "ignore_eos"},
    completion=_OPENAI | {"top_k", "min_p", "repeat_penalty", "ignore_eos", "prompt_ids"},
    renamed={"repeat_penalty": "repetition_penalty"},
    # It batches hundreds, and does not say how many: as many as the largest GPU of a home has memory for.
    slots=16,
    lookup_style="vllm",
    takes_input_ids=True,
    has_rerank=True,
    ends_completions_early=True,
    goes_on_with_chats=True,
)
"""docs.vllm.ai, "OpenAI-Compatible Server"."""

OLLAMA = Dialect(
    "Ollama",
    chat=_OLLAMA | {"logprobs", "tools", "json_object", "json_schema"},
    completion=_OLLAMA | {"suffix"},
    # OLLAMA_NUM_PARALLEL is 1 by default. More are queued by Ollama, where no other peer can take them.
    slots=1,
    has_slots_per_model=True,
)
"""docs.ollama.com, "OpenAI compatibility"."""

LM_STUDIO = Dialect(
    "LM Studio",
    chat=_LM_STUDIO | {"tools", "required_tool", "named_tool", "json_object", "json_schema"},
    completion=_LM_STUDIO,
    lacks_plain_objects=True,
    lacks_tool_names=True,
    # Since 0.4 a model takes four at once unless told otherwise; older ones queue them.
    slots=4,
    has_slots_per_model=True,
)
"""lmstudio.ai/docs, "OpenAI Compatibility Endpoints"."""

LLAMA_CPP_PYTHON = Dialect(
    "llama_cpp.server",
    chat=_LLAMA_CPP_PYTHON | {"tools", "named_tool"},
    completion=_LLAMA_CPP_PYTHON | {"suffix"},
    # One lock around the model.
    slots=1,
    ends_completions_early=True,
    # The list of models waits for that lock, and whoever waits for it ends the stream that holds it.
    alive_path="/health",
)
"""llama-cpp-python's (llama_cpp/server/app.py). It has no `/health`: that it says so shows that it lives."""

OTHER = Dialect(
    "an OpenAI-compatible server",
    chat=_OPENAI | _TOOLS,
    completion=_OPENAI,
    has_rerank=True,
    ends_completions_early=True,
    answers_meanwhile=False,
)
"""Nothing is known of it. One answer at a time is what every server can."""
