"""Manifests of models that are on their way, kept until all of their files are here.

    manifests/3fa0...        called by its own id

Those of models that are here are made from their files. What a crash left of one is known by its id not
being its name any more.
"""

from __future__ import annotations

import logging
from pathlib import Path

import trio

from node.store.disk import written_in
from node.store.leftovers import drop_leftovers
from node.store.whole_file import write_whole
from p2p.blobs.errors import BadManifest
from p2p.blobs.manifest import ENCODED_SIZE_MAX, Manifest, ManifestId, decode_manifest_untrusted

logger = logging.getLogger(__name__)


class KeptManifests:
    """Those in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def get(self, manifest: ManifestId) -> bytes | None:
        """As it is encoded, if it is kept."""
        return await trio.to_thread.run_sync(self._read, manifest)

    async def keep(self, manifest: Manifest) -> None:
        """Keep it, on the disk.

        Raises:
          SinkFull, SinkFailed: the disk does not take it.
        """

        def write() -> None:
            with written_in(self._folder):
                write_whole(self._folder / manifest.id, manifest.encode())

        await trio.to_thread.run_sync(write)

    async def drop(self, manifest: ManifestId) -> None:
        """Keep it no more."""
        await trio.to_thread.run_sync(self._drop, manifest)

    async def drop_older(self, before: float) -> None:
        """Keep none that was written before that time, in seconds since 1970."""
        await trio.to_thread.run_sync(drop_leftovers, self._folder, before)

    def _drop(self, manifest: ManifestId) -> None:
        try:
            (self._folder / manifest).unlink(missing_ok=True)
        except OSError as error:
            logger.warning(
                "a manifest that nobody needs any more stays: manifest=%s error=%s", manifest, error
            )

    def _read(self, manifest: ManifestId) -> bytes | None:
        try:
            with (self._folder / manifest).open("rb") as file:
                data = file.read(ENCODED_SIZE_MAX + 1)
            is_right = decode_manifest_untrusted(data).id == manifest
        except FileNotFoundError:
            return None
        except (OSError, BadManifest) as error:
            logger.warning("a kept manifest is of no use: manifest=%s error=%s", manifest, error)
            return None
        return data if is_right else None
