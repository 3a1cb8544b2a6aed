"""How much of a text's end might be the beginning of a marker that is still being generated."""


def length_that_begins(marker: str, text: str) -> int:
    """Of the longest end of `text` that `marker` begins with, and that is not all of it."""
    for length in range(min(len(marker) - 1, len(text)), 0, -1):
        if marker.startswith(text[-length:]):
            return length
    return 0
