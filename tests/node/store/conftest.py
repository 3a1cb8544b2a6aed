"""Chunks of 4 KiB, so that a file of many is small."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.node.store.chunked_files import SomeFile, small_chunks


@pytest.fixture(autouse=True, scope="module")
def _small_chunks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        small_chunks(patch.setattr)
        yield


@pytest.fixture
def some_file() -> SomeFile:
    return SomeFile(10)
