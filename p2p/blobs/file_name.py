"""What a file of a manifest may be called: the same file, and nothing else, on every system.

A name comes from a stranger and becomes a path, so it is a name alone: no folder, no device,
nothing hidden, nothing that some system strips or folds into another name. Symlinks and
folders cannot be said at all, because a manifest has names and bytes only.
"""

from __future__ import annotations

import unicodedata

from p2p.blobs.errors import BadFileName

SIZE_MAX = 200
"""Bytes in UTF-8. File systems take 255; ours put `.NAME.partial.map` around it."""

_FORBIDDEN = frozenset('/\\:*?"<>|')
"""Separators here or there, drives and streams (`C:`, `x:y`), and what Windows takes in no name."""

_DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"}
    | {f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789\u00b9\u00b2\u00b3"}
)
"""Windows opens these in every folder, whatever follows the first dot (also with small raised digits)."""


def check_file_name(name: str) -> str:
    """`name`, if a file may be called so.

    Raises:
      BadFileName: it may not; the text says why.
    """
    # By categories C: control characters, and those that are not there to be seen (direction marks, lone
    # surrogates), with which one name is made to look like another.
    if any(unicodedata.category(each)[0] == "C" or each in _FORBIDDEN for each in name):
        raise BadFileName(f"{name!r} holds a character that no file's name may have")
    if not name or name[0] == "." or name[-1] in ". " or name[0] == " ":
        raise BadFileName(f"{name!r} is empty or hidden, or begins or ends with what some systems strip")
    if name.partition(".")[0].rstrip(" ").upper() in _DEVICES:
        raise BadFileName(f"{name!r} is a device on Windows")
    if (size_bytes := len(name.encode())) > SIZE_MAX:
        raise BadFileName(f"{name[:40]!r}... takes {size_bytes} bytes in UTF-8, {SIZE_MAX} are allowed")
    return name


def folded(name: str) -> str:
    """Equal for two names that are one file on some system: they differ in case or in how accents are put."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
