"""How the engine of a model is run: what its YAML says, else what the node was asked for."""

from __future__ import annotations

from node.engine.wire import CacheType, EngineParams
from node.models.model_yaml import ModelSettings


def engine_params(path: str, settings: ModelSettings, slots: int, cache_type: CacheType) -> EngineParams:
    """The parameters for the model at `path`. `cache_type`: of its context, where `settings` say nothing."""
    if settings.f16 is False:
        cache_type = "f32"
    # What is asked of all models is not held against one that cannot.
    can_quantise = settings.flash_attention != "off"
    return EngineParams(
        path=path,
        context_size=settings.context_size or 0,
        slots=slots,
        threads=settings.threads or 0,
        gpu_layers=settings.gpu_layers,
        mmap=settings.mmap is not False,
        mlock=settings.mlock is True,
        cache_type_k=settings.cache_type_k or cache_type,
        cache_type_v=settings.cache_type_v or (cache_type if can_quantise or cache_type == "f32" else "f16"),
        flash_attention=settings.flash_attention or "auto",
    )
