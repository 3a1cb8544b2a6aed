"""What the lists of a server say of its models.

    /v1/models         every server: what they are called
    /props             llama-server: its slots, and the context of each
    /api/ps, /api/show Ollama: what is in memory, and what each is for
    /api/v0/models     LM Studio: all of that

A model is called here as the server calls it, but for two spellings: a file is called by its stem, as ours
are, and `@`, which introduces a hash here, is `:`. What a model is for is guessed from its name where no list
says it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PureWindowsPath

from federation.backend import ModelInfo
from ledger.probe import MODELS_MAX
from ledger.records import Capability, ModelName, ModelState
from node.attached.dialect import Dialect
from node.attached.json_fields import JsonFields
from node.models.errors import BadModelName
from node.models.model_name import parse_model_name

_TEXT: tuple[Capability, ...] = ("chat", "completion")

_STATES: Mapping[str, ModelState] = {
    "loaded": "loaded",
    "loading": "loading",
    "unloaded": "cold",
    "not-loaded": "cold",
    "sleeping": "cold",
    "failed": "failed",
}
"""Words of llama-server's router and of LM Studio. All load a model when it is asked for."""

_RANKS = re.compile(r"rerank", re.IGNORECASE)
_EMBEDS = re.compile(r"embed|minilm|(^|[/-])(bge|e5|gte)-", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AttachedModel:
    """One model of a server."""

    name: ModelName
    id: str
    """What the server calls it."""
    state: ModelState = "loaded"
    capabilities: tuple[Capability, ...] = _TEXT
    context_size: int = 0
    size_bytes: int = 0
    takes_tools: bool = True
    """If not, its server would leave them out of the prompt without a word."""

    def info(self, trouble: str, trouble_state: ModelState) -> ModelInfo:
        """As a backend says it; `trouble` keeps its server from serving, if anything does."""
        state = trouble_state if trouble else self.state
        return ModelInfo(self.name, state, self.capabilities, self.context_size, trouble)


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found out about a server."""

    dialect: Dialect
    models: tuple[AttachedModel, ...] = ()
    """Sorted by name, each name once."""
    slots: int | None = None
    """Answers at once; None: it does not say."""
    left_out: tuple[str, ...] = ()
    """Why some of its models are not among them, for a person."""


def name_of(model_id: str) -> ModelName:
    """What a model is called here.

    Raises:
      BadModelName: it cannot be.
    """
    # As on Windows, which knows both slashes.
    name = PureWindowsPath(model_id).stem if model_id.lower().endswith(".gguf") else model_id
    return parse_model_name(name.replace("@", ":"))


def guessed_capabilities(name: str) -> tuple[Capability, ...]:
    """What a model of that name is for."""
    if _RANKS.search(name):
        return ("rerank",)
    return ("embeddings",) if _EMBEDS.search(name) else _TEXT


def owners_in(listing: JsonFields) -> set[str]:
    """Who owns the models of `/v1/models`: most programs name themselves."""
    return {row.text("owned_by") for row in listing.rows("data")}


def survey_of(dialect: Dialect, models: Iterable[AttachedModel | str], slots: int | None = None) -> Survey:
    """All of it, within bounds. A text instead of a model is why there is none."""
    named: dict[ModelName, AttachedModel] = {}
    left_out: list[str] = []
    for model in models:
        if isinstance(model, str):
            left_out.append(model)
        elif model.name in named:
            left_out.append(f"{model.id} is called {model.name} here, as {named[model.name].id} is")
        else:
            named[model.name] = model
    names = sorted(named)
    if len(names) > MODELS_MAX:
        left_out.append(f"it has {len(names)} models; only the first {MODELS_MAX} are served")
    kept = tuple(named[name] for name in names[:MODELS_MAX])
    return Survey(dialect, kept, slots, tuple(left_out[:MODELS_MAX]))


def listed_models(listing: JsonFields) -> list[AttachedModel | str]:
    """Those of `/v1/models`."""
    return [_named(row.text("id"), _listed(row)) for row in listing.rows("data")]


def _listed(row: JsonFields) -> AttachedModel:
    meta = row.fields("meta") if isinstance(row.raw("meta"), dict) else JsonFields({}, "meta")
    status = row.fields("status") if isinstance(row.raw("status"), dict) else JsonFields({}, "status")
    id_ = row.text("id")
    return AttachedModel(
        ModelName(""),
        id_,
        state=_STATES.get(status.text("value"), "loaded"),
        capabilities=guessed_capabilities(id_),
        context_size=row.count("max_model_len"),
        size_bytes=meta.count("size"),
    )


def llama_server_models(
    models: Iterable[AttachedModel | str], props: JsonFields
) -> list[AttachedModel | str]:
    """`models` of `/v1/models`, with what `/props` of a llama-server says of them."""
    # Of a slot. A router has none, and says so with each model.
    size = props.fields("default_generation_settings").count("n_ctx")
    caps = props.fields("chat_template_caps")
    takes_tools = "supports_tools" not in caps or caps.raw("supports_tools") is not False
    return [
        model
        if isinstance(model, str)
        else replace(model, context_size=size or model.context_size, takes_tools=takes_tools)
        for model in models
    ]


def lm_studio_models(listing: JsonFields) -> list[AttachedModel | str]:
    """Those of LM Studio's `/api/v0/models`."""
    return [_named(row.text("id"), _of_lm_studio(row)) for row in listing.rows("data")]


def _of_lm_studio(row: JsonFields) -> AttachedModel:
    return AttachedModel(
        ModelName(""),
        row.text("id"),
        state=_STATES.get(row.text("state"), "cold"),
        capabilities=("embeddings",) if row.text("type") == "embeddings" else _TEXT,
        context_size=row.count("loaded_context_length") or row.count("max_context_length"),
    )


def ollama_loaded(running: JsonFields) -> dict[str, int]:
    """What Ollama's `/api/ps` has in memory: ids, and the context of each (0: not said)."""
    return {row.text("name"): row.count("context_length") for row in running.rows("models")}


def ollama_capabilities(shown: JsonFields) -> tuple[Capability, ...]:
    """What a model of Ollama's `/api/show` is for."""
    if "capabilities" not in shown:
        return _TEXT
    words = shown.items("capabilities")
    return ("embeddings",) if "embedding" in words and "completion" not in words else _TEXT


def ollama_models(
    models: Iterable[AttachedModel | str],
    loaded: Mapping[str, int],
    capabilities: Mapping[str, tuple[Capability, ...]],
) -> list[AttachedModel | str]:
    """`models` of `/v1/models`, with what else Ollama says of them."""
    return [
        model
        if isinstance(model, str)
        else replace(
            model,
            state="loaded" if model.id in loaded else "cold",
            context_size=loaded.get(model.id, 0),
            capabilities=capabilities.get(model.id, model.capabilities),
        )
        for model in models
    ]


def ids_of(models: Iterable[AttachedModel | str]) -> list[str]:
    """What the server calls them, at most as many as are served."""
    return [model.id for model in models if not isinstance(model, str)][:MODELS_MAX]


def _named(id_: str, model: AttachedModel) -> AttachedModel | str:
    try:
        return replace(model, name=name_of(id_))
    except BadModelName as error:
        return str(error)
