"""Knowing what a model's files are, to the byte: hashed in the background, and again whenever they changed.

unknown --hashing, with progress--> known, offered to peers --somebody writes to one--> unknown
          |            ^
          +-stop-----go_on
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from node.models.definition import ModelDefinition
from node.models.errors import ModelError
from node.store.store import Identity, Store
from p2p.blobs.errors import BadManifest

logger = logging.getLogger(__name__)

_HASH_PAUSE = 60.0
"""Seconds until a file is read again that could not be, or was being written to: copying takes minutes."""


class Identification:
    """Of one model. One task `run`s it."""

    def __init__(self, store: Store, definition: ModelDefinition, on_change: Callable[[], None]) -> None:
        """`on_change` is called when something below changed."""
        self.identity: Identity | None = None
        """None until the files are hashed."""
        self.is_hashing = False
        self.hashed_bytes = 0
        """Of all its files, while they are hashed."""
        self._store = store
        self._definition = definition
        self._on_change = on_change
        self._hashing = trio.CancelScope()
        self._goes_on = trio.Event()

    @property
    def sha256(self) -> str:
        """Of its weights; empty until they are hashed."""
        return self.identity.sha256 if self.identity else ""

    @property
    def manifest_id(self) -> str:
        """Of its files; empty until they are hashed."""
        return self.identity.manifest.id if self.identity else ""

    def stop(self) -> None:
        """Hash no more for now. What was read is kept."""
        self._goes_on = trio.Event()
        self._hashing.cancel()

    def go_on(self) -> None:
        """Hash on, where somebody stopped that."""
        self._goes_on.set()

    async def run(self, wait_until_loaded: Callable[[], Awaitable[None]]) -> None:
        """Hash whatever is to be hashed, until cancelled: nothing is offered to peers then.

        Args:
          wait_until_loaded: returns when the model is not being loaded (any more). Both read all of its
            files, and the second finds them in memory.
        """
        try:
            if not await self._store.knows(self._definition):
                await wait_until_loaded()
            while True:
                self.identity = await self._hash()
                self._on_change()
                await self.identity.outdated.wait()
                logger.warning(
                    "a model's files changed, and are hashed anew: model=%s", self._definition.name
                )
                self._forget()
                self._on_change()
        finally:
            self._forget()

    async def _hash(self) -> Identity:
        """What its files are, as soon as they can be read and nobody writes to them."""
        reason = ""
        while True:
            self.is_hashing, self.hashed_bytes = True, 0
            self._hashing = trio.CancelScope()
            try:
                with self._hashing:
                    return await self._store.identify(self._definition, self._note)
            except (ModelError, BadManifest) as error:
                if str(error) != reason:
                    reason = str(error)
                    logger.warning(
                        "a model's files have no hash: model=%s error=%s", self._definition.name, reason
                    )
            finally:
                self.is_hashing = False
            if self._hashing.cancelled_caught:
                self._on_change()
                await self._goes_on.wait()
            else:
                await trio.sleep(_HASH_PAUSE)

    def _note(self, done_bytes: int) -> None:
        self.hashed_bytes = done_bytes
        self._on_change()

    def _forget(self) -> None:
        if self.identity is not None:
            self._store.forget(self.identity)
            self.identity = None
