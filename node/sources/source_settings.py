"""Which servers stand behind `hf://` and `ollama://`, and who we are there.

    HF_ENDPOINT         a mirror of Hugging Face                as its own tools read it
    HF_TOKEN            for models that are not for everybody   as its own tools read it
    OLLAMA_REGISTRY     a mirror of Ollama's registry           https://HOST, or HOST alone

Proxies are read by httpx: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from node.errors import WrongUse
from node.sources.web_url import WebUrl

LOCALAI_GALLERY = "localai=github:mudler/LocalAI/gallery/index.yaml@master"
"""The gallery that names are looked up in unless others are given."""

_HF_ENDPOINT = "https://huggingface.co"
_OLLAMA_REGISTRY = "https://registry.ollama.ai"


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """What the environment says of sources."""

    hf_endpoint: WebUrl = field(default_factory=lambda: WebUrl.parse(_HF_ENDPOINT))
    hf_token: str = field(default="", repr=False)
    ollama_registry: WebUrl = field(default_factory=lambda: WebUrl.parse(_OLLAMA_REGISTRY))

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> SourceSettings:
        """As `environment` says; called where a program starts.

        Raises:
          WrongUse: a variable does not hold what it should; says which.
        """
        token = environment.get("HF_TOKEN", "").strip()
        if not token.isascii() or not token.isprintable() or " " in token:
            raise WrongUse("HF_TOKEN holds what no token can: a space, or a character that is not ASCII")
        return cls(
            _endpoint(environment, "HF_ENDPOINT", _HF_ENDPOINT),
            token,
            _endpoint(environment, "OLLAMA_REGISTRY", _OLLAMA_REGISTRY),
        )


def _endpoint(environment: Mapping[str, str], name: str, usual: str) -> WebUrl:
    text = environment.get(name, "").strip().rstrip("/") or usual
    try:
        return WebUrl.parse(text if "://" in text else f"https://{text}")
    except ValueError as error:
        raise WrongUse(f"{name}: {error}") from None
