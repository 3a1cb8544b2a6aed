"""A repository of Hugging Face: where its files are, and which of them make the model that was meant. Pure.

GET /api/models/ORG/REPO/tree/REVISION?recursive=true     its files, with size and, in `lfs.oid`, sha256
HEAD /ORG/REPO/resolve/REVISION/FILE                      the same of one, in X-Linked-Size and X-Linked-ETag
GET /ORG/REPO/resolve/REVISION/FILE                       leads to the file itself, on another host
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from urllib.parse import quote

from node.models.split_files import parse_part_name
from node.sources.errors import SourceRefused, UnsuitableModel
from node.sources.file_names import parts_among
from node.sources.reference import HuggingFaceReference
from node.sources.source_files import Location
from node.sources.source_settings import SourceSettings

TREE_SIZE_MAX = 8 * 1024 * 1024
"""Bytes of a list of files. One of a thousand, which is a page, takes 300,000."""
TREE_PAGES_MAX = 10
"""Ten thousand files: no repository of models in GGUF has a tenth of that."""
QUANTISATION_DEFAULT = "Q4_K_M"
"""What llama.cpp, Ollama and LocalAI take too when nobody says: the smallest that loses little."""

_CHOICES_SHOWN_MAX = 12
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NEXT = re.compile(r'<([^<>]{1,4000})>\s*;\s*rel="next"')
_QUANTISATION = re.compile(
    r"(?:UD-)?(?:I?Q[1-8](?:_[A-Z0-9]+)*|TQ[12]_0|BF16|F16|F32|MXFP4(?:_MOE)?)(?![A-Z0-9])"
)


@dataclass(frozen=True, slots=True)
class RepositoryFile:
    """One file of a repository."""

    path: str
    size_bytes: int | None = None
    sha256: str = ""


def file_locations(
    settings: SourceSettings, reference: HuggingFaceReference, path: str
) -> tuple[Location, ...]:
    """Where the file at `path` of the repository is: at each mirror.

    Raises:
      UnsuitableModel: its path is too long for a URL.
    """
    return _locations(settings, f"/{reference.repository}/resolve/{quote(reference.revision)}/{quote(path)}")


def tree_locations(settings: SourceSettings, reference: HuggingFaceReference) -> tuple[Location, ...]:
    """Where the list of the repository's files is, its first page: at each mirror."""
    path = f"/api/models/{reference.repository}/tree/{quote(reference.revision)}?recursive=true"
    return _locations(settings, path)


def read_tree(document: object) -> Sequence[RepositoryFile]:
    """The files on one page of a list.

    Raises:
      SourceRefused: it is none.
    """
    if not isinstance(document, list):
        raise SourceRefused("Hugging Face's list of files is not a list; is HF_ENDPOINT a mirror of it?")
    return [
        RepositoryFile(
            path, size_bytes if isinstance(size_bytes, int) and size_bytes >= 0 else None, _oid(item)
        )
        for item in document
        if isinstance(item, Mapping) and item.get("type") == "file"
        if isinstance(path := item.get("path"), str)
        for size_bytes in [item.get("size")]
    ]


def next_page(link: str) -> str:
    """Where a list goes on, from the `Link` header of a page; empty: it ends there."""
    match = _NEXT.search(link)
    return match[1] if match else ""


def read_headers(path: str, headers: Mapping[str, str]) -> RepositoryFile:
    """What the headers of an answer for `path` say of the file."""
    size = headers.get("x-linked-size", "")
    etag = headers.get("x-linked-etag") or headers.get("etag", "")
    sha256 = etag.removeprefix("W/").strip('"')
    return RepositoryFile(
        path,
        int(size) if size.isascii() and size.isdigit() and len(size) < 20 else None,
        # Of a file that is not in LFS it is git's own hash, which is shorter.
        sha256 if _SHA256.fullmatch(sha256) else "",
    )


def choose(files: Iterable[RepositoryFile], reference: HuggingFaceReference) -> Sequence[RepositoryFile]:
    """The model that `reference` means, in the order of its parts.

    Raises:
      UnsuitableModel: there is none, or several could be meant; says which there are.
    """
    models = {file.path: file for file in files if _is_model(file.path)}
    if not models:
        raise UnsuitableModel(
            f"{reference.canonical} has no GGUF file; look for a repository with GGUF in its name"
        )
    bases = sorted({_base(path) for path in models})
    wanted = reference.quantisation or QUANTISATION_DEFAULT
    fitting = [base for base in bases if _label(base) == wanted] or [
        base for base in bases if _has_token(base.upper(), wanted)
    ]
    if not fitting and not reference.quantisation and len(bases) == 1:
        fitting = bases
    if len(fitting) != 1:
        raise UnsuitableModel(_choice(reference, wanted, fitting, bases))
    first = min(path for path in models if _base(path) == fitting[0])
    return [models[path] for path in parts_among(models, first)]


def _locations(settings: SourceSettings, path: str) -> tuple[Location, ...]:
    # What stands behind a '?' in an endpoint has no place here.
    try:
        return tuple(
            Location(root.join(root.shown.rstrip("/") + path), settings.hf_token)
            for root in settings.hf_endpoints
        )
    except ValueError as error:
        raise UnsuitableModel(f"the address of {path[:100]!r} cannot be written: {error}") from None


def _oid(item: Mapping[str, object]) -> str:
    lfs = item.get("lfs")
    oid = lfs.get("oid") if isinstance(lfs, Mapping) else None
    return oid if isinstance(oid, str) and _SHA256.fullmatch(oid) else ""


def _is_model(path: str) -> bool:
    name = path.rpartition("/")[2].lower()
    # The others are made for a model: its projector for images, and how its quantisation was weighed.
    return name.endswith(".gguf") and "mmproj" not in name and "imatrix" not in name


def _base(path: str) -> str:
    part = parse_part_name(path)
    return f"{part.stem}{part.suffix}" if part else path


def _label(base: str) -> str:
    found = _QUANTISATION.findall(base.rpartition("/")[2].upper())
    return found[-1] if found else ""


def _has_token(text: str, token: str) -> bool:
    """Whether `token` stands in `text` by itself: F16 does not in BF16, nor Q4_K in Q4_K_M."""
    return re.search(rf"(?<![A-Z0-9]){re.escape(token)}(?![A-Z0-9_])", text) is not None


def _choice(
    reference: HuggingFaceReference, wanted: str, fitting: Sequence[str], bases: Sequence[str]
) -> str:
    """What to say when not one model was meant."""
    repository = f"hf://{reference.repository}"
    if fitting:
        there_is = f"{repository} has several files in {wanted}: {_some(fitting)}"
        return f"{there_is}; name one, as {repository}/{fitting[0]}"
    labels = [label for label, _ in groupby(sorted(filter(None, map(_label, bases))))]
    if labels:
        return (
            f"{repository} has nothing in {wanted}; there is {_some(labels)}: write {repository}:{labels[0]}"
        )
    return f"{repository} has nothing in {wanted}; there is {_some(bases)}: write {repository}/{bases[0]}"


def _some(texts: Sequence[str]) -> str:
    more = len(texts) - _CHOICES_SHOWN_MAX
    return ", ".join(texts[:_CHOICES_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")
