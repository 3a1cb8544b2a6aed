"""Small chunks, no room that has to stay free, and little patience, so that tests are short."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from node.install import ways
from node.jobs import board
from node.sources import download, resolve
from node.store import disk, reuse
from p2p.blobs import fetcher, file_fetch
from tests.node.install.town import small_chunks

USED = (download, resolve, reuse, fetcher)
"""Loaded before their chunks are made small."""


@pytest.fixture(autouse=True, scope="module")
def _small_chunks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        small_chunks(patch.setattr)
        patch.setattr(disk, "DISK_RESERVE", 0)
        patch.setattr(board, "WAIT_MAX", 0.05)
        patch.setattr(ways, "_STALL_TIME", 1.0)
        patch.setattr(ways, "_PATIENCE", 2.0)
        patch.setattr(ways, "_LEADER_PAUSE", 0.01)
        patch.setattr(file_fetch, "RETRY_DELAY", 0.05)
        yield
