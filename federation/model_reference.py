"""What a request calls the model it wants: a name, or one exact file of that name.

    tiny                     whatever is called so
    tiny@sha256:<64 hex>     only where the file has that hash

Hex is in lower case, as every tool prints it: one model must not have many spellings.
Text of any other form is a name, and since no name holds an `@`, one that nobody has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ledger.records import ModelName

_WITH_HASH = re.compile(r"(?P<name>[^@]+)@sha256:(?P<sha256>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class ModelReference:
    """Which model is meant."""

    name: ModelName
    sha256: str = ""
    """Hex, of the model's file; empty: of any."""

    @classmethod
    def parse(cls, text: str) -> ModelReference:
        """What `text` refers to."""
        match = _WITH_HASH.fullmatch(text)
        return cls(ModelName(match["name"]), match["sha256"]) if match else cls(ModelName(text))

    @property
    def text(self) -> ModelName:
        """What `parse` reads."""
        return ModelName(f"{self.name}@sha256:{self.sha256}") if self.sha256 else self.name

    def is_met_by(self, name: ModelName, sha256: str) -> bool:
        """Whether a model called `name`, whose file has `sha256` (empty: not known yet), is meant."""
        return name == self.name and self.sha256 in ("", sha256)
