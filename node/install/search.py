"""Who of the swarm has a model, or is getting it. Pure: looks at rows of the swarm's view."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ledger.records import ModelName, ModelRecord
from ledger.view import NodeView
from p2p.blobs.manifest import FileKey, ManifestId
from p2p.peer import PeerId

_COMPARED_MAX = 1000
"""Names that one which nobody knows is compared with: some hundredths of a second."""


@dataclass(frozen=True, slots=True)
class Copies:
    """The same model, whole, at one peer or several."""

    manifest: ManifestId
    sha256: str
    name: ModelName
    """As the first of them calls it."""
    size_bytes: int
    peers: tuple[PeerId, ...]
    """Sorted."""


Matches = Callable[[ModelRecord], bool]


def of_name(name: str) -> Matches:
    """A model that is called so."""
    return lambda record: record.name == name


def of_source(source: FileKey) -> Matches:
    """A model that came from there."""
    return lambda record: record.source == source


def of_weights(sha256: str) -> Matches:
    """A model with these weights."""
    return lambda record: record.sha256 == sha256


def of_manifest(manifest: ManifestId) -> Matches:
    """A model with these files."""
    return lambda record: record.manifest == manifest


def whole_copies(nodes: Iterable[NodeView], me: PeerId | None, matches: Matches) -> Copies | None:
    """The model that `matches`, of which most peers but `me` have all; None: nobody who is here does."""
    held: defaultdict[str, list[tuple[PeerId, ModelRecord]]] = defaultdict(list)
    for peer, record in _records(nodes, me):
        if record.state != "fetching" and record.manifest and record.sha256 and matches(record):
            held[record.manifest].append((peer, record))
    if not held:
        return None
    # The same for all who look, should two names mean different bytes.
    manifest, holders = min(held.items(), key=lambda item: (-len(item[1]), item[0]))
    record = min(holders, key=lambda holder: holder[0])[1]
    return Copies(
        ManifestId(manifest),
        record.sha256,
        record.name,
        record.size_bytes,
        tuple(sorted(peer for peer, _ in holders)),
    )


def seeders(nodes: Iterable[NodeView], me: PeerId, manifest: ManifestId, sha256: str) -> frozenset[PeerId]:
    """Who has some of these files: all of them, the weights alone, or what has come of them so far."""
    return frozenset(
        peer
        for peer, record in _records(nodes, me)
        if record.manifest == manifest or (sha256 and record.sha256 == sha256)
    )


def getting(nodes: Iterable[NodeView], me: PeerId, source: FileKey) -> frozenset[PeerId]:
    """Who has it from there, or is getting it."""
    return frozenset(peer for peer, record in _records(nodes, me) if record.source == source)


def origin_of(
    nodes: Iterable[NodeView], me: PeerId, source: FileKey, may_be: Callable[[PeerId], bool]
) -> PeerId | None:
    """Who else downloads it, of those who `may_be`; of several the smallest peer id, which is the one that
    goes on."""
    origins = (
        peer
        for peer, record in _records(nodes, me)
        if record.state == "fetching" and record.is_origin and record.source == source and may_be(peer)
    )
    return min(origins, default=None)


def names_like(nodes: Iterable[NodeView], me: PeerId, name: str) -> Sequence[str]:
    """What models that others have are called, if that is nearly `name`: the nearest first."""
    names = sorted({record.name for _, record in _records(nodes, me)})
    return difflib.get_close_matches(name, names[:_COMPARED_MAX], 3, 0.6)


def _records(nodes: Iterable[NodeView], me: PeerId | None) -> Iterator[tuple[PeerId, ModelRecord]]:
    """Models of the other nodes that are here."""
    for node in nodes:
        if node.peer != me and node.state != "offline":
            for record in node.models:
                yield node.peer, record
