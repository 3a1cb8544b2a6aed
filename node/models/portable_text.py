"""Text that can leave this process.

Python spells what is no Unicode as lone surrogates: a file's name in some old encoding,
`"\\ud83d"` in YAML. Every frame, record and answer is UTF-8, which cannot carry them.
"""

from __future__ import annotations


def is_portable(text: str) -> bool:
    """Whether UTF-8 can carry `text`."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
