"""What people write to say which model they mean, and from where.

    qwen3-4b                             of a gallery
    home@qwen3-4b                        of the gallery that is called `home`
    demo                                 the bundled one
    ./tiny.gguf    /data/tiny.yaml       a file of this machine
    https://example.com/tiny.gguf        a file of the web
    hf://org/repo/tiny.gguf              a file of Hugging Face; `@revision` may follow the repository
    hf://org/repo:Q4_K_M                 the file of a repository in that quantisation
    ollama://llama3.2:1b                 of Ollama's library; `namespace/`, `host/namespace/` may precede
    github:org/repo/tiny.yaml@main       a file of a repository of GitHub, as LocalAI writes it

LocalAI's `huggingface://` and `hf.co/`, and what stands in a browser's address bar on these sites, mean the
same. Nothing is looked up here: a text means the same on each machine, whatever files there are.

Each has a `canonical` form, one for all ways to write it and without secrets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from node.models.definition import DEMO, YAML_SUFFIXES
from node.models.errors import BadModelName
from node.models.model_name import parse_model_name
from node.sources.errors import BadReference
from node.sources.web_url import WebUrl

REVISION_DEFAULT = "main"
TAG_DEFAULT = "latest"
NAMESPACE_DEFAULT = "library"

_HELP = "write a gallery's NAME, a file, https://..., hf://ORG/REPO/FILE.gguf or ollama://NAME"
_LENGTH_MAX = 4096
"""Characters: as long as a URL may be."""

GITHUB = "github:"
_GITHUB_FILES = "https://raw.githubusercontent.com"
_HF_PREFIXES = ("hf://", "huggingface://", "hf.co/", "huggingface.co/")
_HF_HOSTS = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})
_OLLAMA_HOSTS = frozenset({"ollama.com", "www.ollama.com", "registry.ollama.ai"})
_FILE_SUFFIXES = (".gguf", *YAML_SUFFIXES)
_ALMOST_A_SCHEME = re.compile(r"(?:hf|huggingface|ollama|https?|file):", re.IGNORECASE)
_PATH = re.compile(r"[./~\\]|[A-Za-z]:[/\\]")
"""How a path begins that cannot be a name."""

_HF_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
"""Of an organisation or a repository: Hugging Face allows 96 characters."""
_REVISION = re.compile(r"(?!\.{1,2}$)[\w.-]{1,255}", re.ASCII)
"""A branch, tag or commit. One with a slash in it has to be given by its commit."""
_QUANTISATION = re.compile(r"[A-Za-z0-9][\w.-]{0,31}", re.ASCII)
_OLLAMA_PART = re.compile(r"[A-Za-z0-9_][\w.-]{0,79}", re.ASCII)
"""Of a name, namespace or tag: Ollama allows 80 characters."""


@dataclass(frozen=True, slots=True)
class GalleryReference:
    """A model of a gallery, of the one called `gallery` or of the first that has it."""

    name: str
    gallery: str = ""

    @property
    def canonical(self) -> str:
        return f"{self.gallery}@{self.name}" if self.gallery else self.name


@dataclass(frozen=True, slots=True)
class DemoReference:
    """The bundled model."""

    @property
    def canonical(self) -> str:
        return DEMO


@dataclass(frozen=True, slots=True)
class FileReference:
    """A file of this machine, used where it is."""

    path: Path

    @property
    def canonical(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class UrlReference:
    """A file of the web."""

    url: WebUrl

    @property
    def canonical(self) -> str:
        return self.url.canonical


@dataclass(frozen=True, slots=True)
class HuggingFaceReference:
    """A file of a repository: `path`, or else the one in a quantisation."""

    repository: str
    """`organisation/name`."""
    path: str = ""
    quantisation: str = ""
    """Without a path: empty for the usual one."""
    revision: str = REVISION_DEFAULT

    @property
    def canonical(self) -> str:
        revision = "" if self.revision == REVISION_DEFAULT else f"@{self.revision}"
        file = f"/{self.path}" if self.path else f":{self.quantisation}" if self.quantisation else ""
        return f"hf://{self.repository}{revision}{file}"


@dataclass(frozen=True, slots=True)
class OllamaReference:
    """A model of an Ollama registry."""

    name: str
    namespace: str = NAMESPACE_DEFAULT
    tag: str = TAG_DEFAULT
    host: str = ""
    """With its port; empty: the usual registry."""

    @property
    def short_name(self) -> str:
        """What people call it."""
        return self.name if self.tag == TAG_DEFAULT else f"{self.name}:{self.tag}"

    @property
    def canonical(self) -> str:
        path = (
            self.name
            if self.namespace == NAMESPACE_DEFAULT and not self.host
            else f"{self.namespace}/{self.name}"
        )
        return f"ollama://{self.host}{'/' if self.host else ''}{path}:{self.tag}"


Reference: TypeAlias = (
    GalleryReference | DemoReference | FileReference | UrlReference | HuggingFaceReference | OllamaReference
)


def parse_reference(text: str) -> Reference:
    """What `text` names.

    Raises:
      BadReference: nothing; says why, and what to write instead.
    """
    if not text.strip():
        raise BadReference(f"no model was named; {_HELP}")
    if len(text) > _LENGTH_MAX or not text.isprintable() or text != text.strip():
        raise BadReference(
            f"a model's name or address is at most {_LENGTH_MAX} characters, all of them visible; {_HELP}"
        )
    if text == DEMO:
        return DemoReference()
    for prefix in _HF_PREFIXES:
        if text.startswith(prefix):
            return _hugging_face(text, text.removeprefix(prefix))
    if text.startswith(GITHUB):
        return _github(text)
    scheme, separator, rest = text.partition("://")
    if separator:
        return _with_scheme(scheme.lower(), text, rest)
    if match := _ALMOST_A_SCHEME.match(text):
        raise BadReference(f"after {match[0]} two slashes are missing; write {match[0]}//...")
    if _PATH.match(text) or text.lower().endswith(_FILE_SUFFIXES):
        return FileReference(Path(text))
    return _gallery(text)


def expanded(path: Path) -> Path:
    """`path` with the home folder that a `~` stands for.

    Raises:
      BadReference: nobody knows that folder.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        raise BadReference(f"{str(path)!r} begins with the home of somebody who is not known here") from None


def _with_scheme(scheme: str, text: str, rest: str) -> Reference:
    match scheme:
        case "http" | "https":
            return _web(text)
        case "ollama":
            return _ollama(text, rest)
        case "file":
            return _file(text)
        case "oci" | "ocifile" | "docker":
            raise BadReference(
                f"{scheme}:// is not known here: give the model's file by https://, hf:// or ollama://"
            )
    # Not `text`: where a URL was meant, it may hold a secret.
    raise BadReference(
        f"{scheme}:// is not known here; there are https://, http://, hf://, huggingface://, ollama:// and file://"
    )


def _gallery(text: str) -> GalleryReference:
    gallery, at, name = text.rpartition("@")
    if "/" in (gallery if at else text) or "\\" in text:
        raise BadReference(
            f"{text!r} could be several things: write ./{text} for a file, hf://{text} for Hugging Face,"
            f" ollama://{text} for Ollama or GALLERY@{text} for a gallery's"
        )
    if at and not gallery:
        raise BadReference(f"{text!r} has no gallery before its '@'; write GALLERY@NAME, or the name alone")
    if name.startswith("sha256:"):
        raise BadReference(f"{text!r} says what a model's content must be, not where it is; {_HELP}")
    try:
        return GalleryReference(parse_model_name(name), parse_model_name(gallery) if at else "")
    except BadModelName as error:
        raise BadReference(f"{error}; {_HELP}") from error


def _github(text: str) -> UrlReference:
    path, _, branch = text.removeprefix(GITHUB).removeprefix("//").partition("@")
    owner, _, rest = path.partition("/")
    repository, _, file = rest.partition("/")
    if not owner or not repository or not file or ".." in text:
        raise BadReference(f"{text!r} is not like github:ORG/REPO/FILE@BRANCH")
    try:
        return UrlReference(WebUrl.parse(f"{_GITHUB_FILES}/{owner}/{repository}/{branch or 'main'}/{file}"))
    except ValueError as error:
        raise BadReference(str(error)) from None


def _file(text: str) -> FileReference:
    host, slash, path = unquote(text.partition("://")[2]).partition("/")
    if host not in ("", "localhost") or not path or not path.isprintable():
        raise BadReference(
            f"{text!r} names no file of this machine; write file:///folder/model.gguf or the path alone"
        )
    # `file:///C:/models/x.gguf`: there the drive is the root.
    return FileReference(Path(path if re.match(r"[A-Za-z]:", path) else slash + path))


def _web(text: str) -> Reference:
    try:
        url = WebUrl.parse(text)
    except ValueError as error:
        raise BadReference(str(error)) from None
    parts = urlsplit(url.shown)
    if parts.hostname in _HF_HOSTS:
        return _hugging_face_page(url, [unquote(part) for part in parts.path.split("/") if part])
    if parts.hostname in _OLLAMA_HOSTS:
        return _ollama(url.shown, unquote(parts.path).strip("/"))
    return UrlReference(url)


def _hugging_face_page(url: WebUrl, path: list[str]) -> Reference:
    """`/org/repo`, `/org/repo/tree/main`, `/org/repo/blob/main/x.gguf` or `/org/repo/resolve/main/x.gguf`."""
    match path:
        case ["datasets" | "spaces" | "api" | "models" | "docs", *_]:
            raise BadReference(f"{url} is no model's page on Hugging Face; write hf://ORG/REPO")
        case [organisation, repository]:
            return _hugging_face(url.shown, f"{organisation}/{repository}")
        case [organisation, repository, "tree", revision]:
            return _hugging_face(url.shown, f"{organisation}/{repository}@{revision}")
        case [organisation, repository, "blob" | "resolve", revision, *file] if file:
            return _hugging_face(url.shown, f"{organisation}/{repository}@{revision}/{'/'.join(file)}")
    raise BadReference(f"{url} is neither a model nor one of its files on Hugging Face; write hf://ORG/REPO")


def _hugging_face(text: str, rest: str) -> HuggingFaceReference:
    if "?" in rest or "#" in rest:
        raise BadReference(
            f"{text.split('?', maxsplit=1)[0]!r} is followed by '?' or '#', which have no meaning in hf://"
        )
    organisation, _, rest = rest.strip("/").partition("/")
    repository, _, path = rest.partition("/")
    if not organisation or not repository:
        raise BadReference(f"{text!r} names no repository; write hf://ORG/REPO or hf://ORG/REPO/FILE.gguf")
    repository, colon, quantisation = repository.partition(":")
    repository, at, revision = repository.partition("@")
    if path and colon:
        raise BadReference(f"{text!r} names a file and a quantisation; one of them is enough")
    if path and not at:
        # As LocalAI's documentation writes it: behind the file.
        path, at, revision = (
            path.partition("@") if re.search(r"\.gguf@[^/]*$", path, re.IGNORECASE) else (path, "", "")
        )
    for part in (organisation, repository):
        if not _HF_NAME.fullmatch(part) or ".." in part:
            raise BadReference(
                f"{text!r}: {part!r} cannot be an organisation or a repository of Hugging Face"
            )
    if at and not _REVISION.fullmatch(revision):
        raise BadReference(f"{text!r}: {revision!r} cannot be a revision: a branch, a tag or a commit")
    if colon and not _QUANTISATION.fullmatch(quantisation):
        raise BadReference(f"{text!r}: {quantisation!r} cannot be a quantisation; write :Q4_K_M or the like")
    _check_gguf_path(text, path)
    return HuggingFaceReference(
        f"{organisation}/{repository}", path, quantisation.upper(), revision if at else REVISION_DEFAULT
    )


def _check_gguf_path(text: str, path: str) -> None:
    if not path:
        return
    if any(part in ("", ".", "..") for part in path.split("/")) or "\\" in path:
        raise BadReference(f"{text!r}: {path!r} is no path within a repository")
    if not path.lower().endswith(".gguf"):
        raise BadReference(f"{text!r} is no GGUF file, and this program runs no others")


def _ollama(text: str, rest: str) -> OllamaReference:
    if "@" in rest or "?" in rest or "#" in rest:
        name = re.split(r"[@?#]", text, maxsplit=1)[0]
        raise BadReference(f"{name!r} goes on with '@', '?' or '#'; write ollama://NAME:TAG")
    *before, last = rest.split("/")
    name, colon, tag = last.partition(":")
    host = before[0] if len(before) > 1 else ""
    namespace = before[-1] if before else NAMESPACE_DEFAULT
    if len(before) > 2 or not name:
        raise BadReference(f"{text!r} names no model; write ollama://NAME:TAG or ollama://NAMESPACE/NAME:TAG")
    if colon and not tag:
        raise BadReference(f"{text!r} has no tag after its ':'; write ollama://{name} for the latest")
    for part in (namespace, name, tag or TAG_DEFAULT):
        if not _OLLAMA_PART.fullmatch(part):
            raise BadReference(f"{text!r}: {part!r} can be no part of a name in Ollama's library")
    if host in _OLLAMA_HOSTS:
        host = ""
    if host:
        try:
            host = WebUrl.parse(f"https://{host}").host
        except ValueError:
            raise BadReference(f"{text!r}: {host!r} is no registry's host") from None
    return OllamaReference(name, namespace, tag or TAG_DEFAULT, host)
