"""A path that a person typed, for a node whose working folder is another one."""

from __future__ import annotations

from pathlib import Path

from node.errors import WrongUse
from node.models.portable_text import is_portable


def path_for_a_node(file: str | Path) -> str:
    """The absolute path of `file`, as text that a running node can be sent.

    Raises:
      WrongUse: it is no text in UTF-8, or begins with the home of somebody who is not known here.
    """
    try:
        path = str(Path(file).expanduser().absolute())
    except RuntimeError:
        raise WrongUse(f"{str(file)!r} begins with the home of somebody who is not known here") from None
    if not is_portable(path):
        raise WrongUse(f"{path!r} is not text in UTF-8: rename the file or its folder")
    return path
