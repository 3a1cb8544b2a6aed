"""Whether this node can serve anything now, and if not, what a person should do. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from federation.backend import ModelInfo


def why_not_ready(models: Sequence[ModelInfo], *, nodes_online: int, is_draining: bool) -> str | None:
    """Why this node should be sent no request now, or None if it may.

    Args:
      models: of all nodes that are online, ourselves included.
      is_draining: this node is about to stop. It still passes on what others could serve, but
        whoever asks whether it is ready had better ask somebody else from now on.
    """
    if is_draining:
        return "this node is draining: it finishes what runs and takes nothing new"
    if any(model.state in ("loaded", "cold") for model in models):
        return None
    if any(model.state in ("loading", "fetching") for model in models):
        names = ", ".join(model.name for model in models if model.state in ("loading", "fetching"))
        return f"still loading {names}"
    if models:
        reasons = "; ".join(f"{model.name}: {model.reason}" for model in models)
        return f"no model could be loaded ({reasons})"
    others = (
        "no other node is online" if nodes_online <= 1 else f"none of the {nodes_online} nodes online has one"
    )
    return f"no model: this node has none and {others}; add one with `localai-node models add FILE`"
