"""What llama.cpp logs when it cannot load a model, in words for a person. Pure."""

from __future__ import annotations

NOT_ENOUGH_MEMORY = "not enough memory"

_WORDS = (
    ("No such file", "the file is missing"),
    ("Permission denied", "the file may not be read"),
    ("failed to read magic", "the file is not GGUF"),
    ("invalid magic", "the file is not GGUF"),
    ("failed to read", "the file is truncated or damaged"),
    ("not within the file bounds", "the file is truncated"),
    ("insufficient memory", NOT_ENOUGH_MEMORY),
    ("failed to allocate", NOT_ENOUGH_MEMORY),
    ("unknown model architecture", "this llama.cpp does not know its architecture"),
)
"""Of several that are in a line, the first counts."""


def load_problem(line: str, otherwise: str) -> str:
    """What `line` of its log means; `otherwise` where that is not known."""
    line = line.rpartition("error loading model: ")[2]
    words = next((words for needle, words in _WORDS if needle in line), otherwise)
    return f"{words} (llama.cpp: {line})"
