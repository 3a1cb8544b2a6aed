"""What this node has of model files, whole or coming in, for itself and for its peers.

    identity = await store.identify(definition)     hash its files, and offer them from now on
    await identity.outdated.wait()                  one of them changed: it is not offered any more
    store.forget(identity)

    with store.growing(key, partial):               offer a file that is coming in

A `ChunkSource`. Files stay where they are. What is given out was compared with its hash on the way, so a
file that somebody wrote to is never given out as what it was: it is left out, with its model, until it is
hashed anew.

One task at a time changes it, in the event loop; all that reads a disk happens in threads.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from node.models.definition import ModelDefinition
from node.store.chunk_reader import SilentChange, read_chunk
from node.store.fingerprint import Fingerprint
from node.store.hash_cache import FileHashes
from node.store.hashing import FileHasher, OnProgress, ignore_progress
from node.store.kept_manifests import KeptManifests
from node.store.model_files import (
    SETTINGS,
    canonical_names,
    manifest_file_of,
    settings_file,
    weights_sha256,
)
from node.store.partial import PartialFile
from p2p.blobs.errors import ChunkUnavailable
from p2p.blobs.have_map import HaveMap
from p2p.blobs.manifest import FileKey, Manifest, ManifestFile, ManifestId, file_key, manifest_of
from p2p.blobs.source import Offer
from p2p.revision import Revision

logger = logging.getLogger(__name__)

_ARRIVED_MAX = 64
"""Files. Each is identified in a moment; one whose model never was, because it was removed at once, goes in
time."""
_FORMER_KEYS_MAX = 256
"""Of files that came from a source, whose followers know them by that for a while longer. More than a home
downloads in one run; who asks for one that is forgotten finds it by its sha256."""


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """What a model of this node is, to the byte, as its files were when they were hashed."""

    manifest: Manifest
    sha256: str
    """Of its weights (`weights_sha256`)."""
    files: tuple[_WholeFile, ...]
    outdated: trio.Event = field(default_factory=trio.Event)
    """Set when one of its files is not what it was."""


@dataclass(frozen=True, slots=True, eq=False)
class _WholeFile:
    """One file of one model: on the disk, or in memory where it is made from settings."""

    entry: ManifestFile
    hashes: FileHashes | None
    data: bytes = b""

    def read(self, chunk: int) -> bytes:
        return self.data if self.hashes is None else read_chunk(self.hashes, chunk)


class Store:
    """The files of this node's models. `hashes` and `manifests` are folders: what it remembers of them."""

    def __init__(self, *, hashes: Path, manifests: Path) -> None:
        self.hasher = FileHasher(hashes)
        self.manifests = KeptManifests(manifests)
        self._identities: list[Identity] = []
        self._growing: dict[FileKey, PartialFile] = {}
        self._arrived: OrderedDict[FileKey, PartialFile] = OrderedDict()
        """Files that came in whole, until the model they are of is identified: nobody who takes one from here
        loses it in between."""
        self._former_keys: OrderedDict[FileKey, FileKey] = OrderedDict()
        self._changed: dict[FileKey, Revision] = defaultdict(Revision)

    async def identify(
        self, definition: ModelDefinition, on_progress: OnProgress = ignore_progress
    ) -> Identity:
        """What the model is, hashing what is not known yet; offered from now on.

        Cancelled: what was hashed is kept for the next call.

        Args:
          on_progress: told how many bytes of all files are done.

        Raises:
          ModelFileUnreadable, ModelFileChanged: one of its files cannot be read, or is being written to.
          BadManifest: it is larger than any model is.
        """
        files = []
        done_bytes = 0
        for name, path in canonical_names(definition):
            before = done_bytes
            hashes = await self.hasher.hash(path, lambda more, before=before: on_progress(before + more))  # type: ignore[misc]
            done_bytes += hashes.fingerprint.size_bytes
            on_progress(done_bytes)
            entry = ManifestFile(name, hashes.fingerprint.size_bytes, hashes.sha256, hashes.chunks)
            files.append(_WholeFile(entry, hashes))
        if data := settings_file(definition.settings):
            files.append(_WholeFile(manifest_file_of(SETTINGS, data), None, data))
        manifest = manifest_of(file.entry for file in files)
        identity = Identity(manifest, weights_sha256(manifest), tuple(files))
        self._identities.append(identity)
        for file in files:
            if (arrived := self._arrived.pop(file.entry.key, None)) is not None:
                arrived.changed.rise()
        self._rise(identity)
        return identity

    async def knows(self, definition: ModelDefinition) -> bool:
        """Whether nothing has to be read to tell what the model is."""
        return await trio.to_thread.run_sync(self._knows, [path for _, path in canonical_names(definition)])

    def forget(self, identity: Identity) -> None:
        """Offer it no more, unless another model has the same files."""
        if identity in self._identities:
            self._identities.remove(identity)
            self._rise(identity)

    @contextmanager
    def growing(self, key: FileKey, partial: PartialFile) -> Iterator[None]:
        """Within, what has come of a file is offered, also once it is whole. Of two that come in at once
        under two names, the first."""
        if key in self._growing:
            yield
            return
        self._growing[key] = partial
        self._changed[key].rise()
        try:
            yield
        finally:
            del self._growing[key]
            if partial.whole is not None:
                self._note_arrived(key, partial, file_key(partial.whole.sha256))
            self._changed[key].rise()
            partial.changed.rise()

    async def find(self, sha256: str) -> Path | None:
        """Where a whole file of that content is, of those that were hashed and did not change since."""
        return await trio.to_thread.run_sync(self._find, sha256)

    async def manifest(self, manifest: ManifestId) -> bytes | None:
        for identity in self._identities:
            if identity.manifest.id == manifest:
                return identity.manifest.encode()
        return await self.manifests.get(manifest)

    def offer(self, file: FileKey) -> Offer | None:
        file = self._former_keys.get(file, file)
        whole = next(self._whole(file), None)
        if whole is not None:
            _, found = whole
            have = HaveMap.full(found.entry.chunk_count)
            return Offer(
                found.entry.size_bytes,
                have,
                found.entry.hashes,
                found.entry.sha256,
                is_growing=False,
                changed=self._changed[file],
            )
        partial = self._growing.get(file) or self._arrived.get(file)
        return None if partial is None else partial.offer

    async def read(self, file: FileKey, chunk: int) -> bytes:
        file = self._former_keys.get(file, file)
        for identity, whole in list(self._whole(file)):
            if not 0 <= chunk < whole.entry.chunk_count:
                raise ChunkUnavailable(f"{file} has no chunk {chunk}")
            try:
                return await trio.to_thread.run_sync(whole.read, chunk)
            except ChunkUnavailable as error:
                logger.warning("a model's file is not given to peers any more: %s", error)
                self.forget(identity)
                if isinstance(error, SilentChange) and whole.hashes is not None:
                    await trio.to_thread.run_sync(self.hasher.cache.drop, whole.hashes.path)
                identity.outdated.set()
        partial = self._growing.get(file) or self._arrived.get(file)
        if partial is None:
            raise ChunkUnavailable(f"{file} is not here any more")
        try:
            return await partial.read(chunk)
        except ChunkUnavailable:
            if self._arrived.get(file) is partial:
                del self._arrived[file]
                partial.changed.rise()
            raise

    def _note_arrived(self, key: FileKey, partial: PartialFile, known: FileKey) -> None:
        if next(self._whole(known), None) is None:
            self._arrived[known] = partial
            while len(self._arrived) > _ARRIVED_MAX:
                _, oldest = self._arrived.popitem(last=False)
                oldest.changed.rise()
        if key != known:
            self._former_keys[key] = known
            while len(self._former_keys) > _FORMER_KEYS_MAX:
                self._former_keys.popitem(last=False)

    def _whole(self, file: FileKey) -> Iterator[tuple[Identity, _WholeFile]]:
        for identity in self._identities:
            for whole in identity.files:
                if whole.entry.key == file:
                    yield identity, whole

    def _rise(self, identity: Identity) -> None:
        for whole in identity.files:
            if whole.entry.key in self._changed:
                self._changed[whole.entry.key].rise()

    def _knows(self, paths: Iterable[Path]) -> bool:
        try:
            known = [self.hasher.cache.get(path, Fingerprint.of_path(path)) for path in paths]
        except OSError:
            return False
        return all(hashes is not None and hashes.is_whole for hashes in known)

    def _find(self, sha256: str) -> Path | None:
        for hashes in self.hasher.cache:
            if hashes.sha256 == sha256 and _is_as_it_was(hashes):
                return hashes.path
        return None


def _is_as_it_was(hashes: FileHashes) -> bool:
    try:
        return Fingerprint.of_path(hashes.path) == hashes.fingerprint
    except OSError:
        return False
