"""What somebody wants to have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from node.install.errors import UnreadableOrder
from node.models.model_name import parse_model_name
from node.sources.gallery_index import GalleryFile
from node.sources.resolve import Wishes


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be had."""

    reference: str = ""
    """What a person wrote; empty where it is to come from peers alone."""
    manifest: str = ""
    """Of what is to come from peers; empty: whatever they call `name`."""
    name: str = ""
    """What it is to be called; empty: as its source says, or its first holder."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[GalleryFile] = ()
    is_placed: bool = False
    """The swarm wants it here."""

    def as_map(self) -> dict[str, Any]:
        """As it is kept with its job."""
        return asdict(self)

    @classmethod
    def of_map(cls, values: Mapping[str, Any]) -> Order:
        """What `as_map` gave, in whichever version of this program.

        Raises:
          UnreadableOrder: it says what this one does not know.
        """
        try:
            files = [GalleryFile(**each) for each in values.get("files", ())]
            return cls(**{**values, "files": files})
        except (TypeError, ValueError) as error:
            raise UnreadableOrder(f"another version of this program wrote this order: {error}") from error

    def wishes(self) -> Wishes:
        """For who looks up what the reference stands for.

        Raises:
          BadModelName: no model can be called so.
        """
        name = parse_model_name(self.name) if self.name else None
        return Wishes(name, self.overrides or None, self.files)
