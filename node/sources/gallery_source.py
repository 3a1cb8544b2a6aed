"""Where a gallery is, and what it is called here.

localai=github:mudler/LocalAI/gallery/index.yaml@master
home=https://models.lan/index.yaml
/data/gallery/index.yaml                                   called `gallery`, after its folder
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from node.sources.errors import BadReference
from node.sources.reference import FileReference, UrlReference, expanded, parse_reference
from node.sources.web_url import WebUrl

_NAME = re.compile(r"[\w.-]{1,60}")
_NAMED = re.compile(r"([\w.-]{1,60})=(.+)")


@dataclass(frozen=True, slots=True)
class GallerySource:
    """One gallery."""

    name: str
    index: WebUrl | Path

    @classmethod
    def parse(cls, text: str) -> GallerySource:
        """The gallery that `text` names: NAME=URL, NAME=FILE, or one of both alone.

        Raises:
          BadReference: it names none.
        """
        match = _NAMED.fullmatch(text)
        where = match[2] if match else text
        reference = parse_reference(where)
        index: WebUrl | Path
        match reference:
            case UrlReference(url):
                index = url
                parts = PurePosixPath(urlsplit(url.shown).path)
            case FileReference(path):
                index = expanded(path).absolute()
                parts = PurePosixPath(index.as_posix())
            case _:
                raise BadReference(
                    f"{where[:200]!r} is no gallery's index; write NAME=https://HOST/index.yaml or NAME=FILE"
                )
        name = match[1] if match else parts.stem if parts.stem != "index" else parts.parent.name
        if not _NAME.fullmatch(name):
            raise BadReference("that gallery needs a name here; write NAME=ADDRESS")
        return cls(name, index)
