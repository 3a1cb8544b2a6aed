"""Which servers stand behind `hf://` and `ollama://`, and who we are there.

    HF_ENDPOINT         mirrors of Hugging Face                 one is as its own tools read it
    HF_TOKEN            for models that are not for everybody   goes to each of these
    OLLAMA_REGISTRY     mirrors of Ollama's registry            https://HOST, or HOST alone

Of several mirrors, with spaces between them, each is asked where the one before could not help.
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
_ENDPOINTS_MAX = 8
"""Each that is down costs the time of finding out."""
_OLLAMA_REGISTRY = "https://registry.ollama.ai"


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """What the environment says of sources."""

    hf_endpoints: tuple[WebUrl, ...] = (WebUrl.parse(_HF_ENDPOINT),)
    hf_token: str = field(default="", repr=False)
    ollama_registries: tuple[WebUrl, ...] = (WebUrl.parse(_OLLAMA_REGISTRY),)

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
            _endpoints(environment, "HF_ENDPOINT", _HF_ENDPOINT),
            token,
            _endpoints(environment, "OLLAMA_REGISTRY", _OLLAMA_REGISTRY),
        )


def _endpoints(environment: Mapping[str, str], name: str, usual: str) -> tuple[WebUrl, ...]:
    texts = environment.get(name, "").split() or [usual]
    if len(texts) > _ENDPOINTS_MAX:
        raise WrongUse(f"{name} names {len(texts)} mirrors; {_ENDPOINTS_MAX} are allowed")
    try:
        return tuple(WebUrl.parse(text if "://" in text else f"https://{text}") for text in texts)
    except ValueError as error:
        raise WrongUse(f"{name}: {error}") from None
