"""Where other programs have their models, as people's words and the environment say. Pure but for a look."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_OLLAMA_SERVICE = Path("/usr/share/ollama/.ollama/models")
"""Of the user that Ollama's installer makes on Linux."""


def models_folder(text: str, environment: Mapping[str, str], home: Path) -> Path:
    """The folder that `text` means: `ollama`, `huggingface`, or a folder.

    Args:
      environment: where those programs look for what they were told, too.
      home: the person's folder.
    """
    match text:
        case "ollama":
            own = home / ".ollama" / "models"
            usual = _OLLAMA_SERVICE if _OLLAMA_SERVICE.is_dir() and not own.is_dir() else own
            return Path(environment.get("OLLAMA_MODELS") or usual)
        case "huggingface":
            cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
            hub = Path(environment.get("HF_HOME") or cache / "huggingface") / "hub"
            return Path(environment.get("HF_HUB_CACHE") or hub)
    return Path(text).expanduser().absolute()
