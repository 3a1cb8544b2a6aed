"""Notes on models survive a restart, and are about the weights that they were made of."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from ledger.records import ModelName
from node.install.model_notes import ModelNote, ModelNotes

TINY = ModelName("tiny")
PLACED = ModelNote("ab" * 32, "source:cd", is_placed=True)


def test_what_was_noted_is_there_after_a_restart(tmp_path: Path) -> None:
    trio.run(ModelNotes(tmp_path / "models.json").put, TINY, PLACED)
    notes = ModelNotes(tmp_path / "models.json")
    assert notes.of(TINY, PLACED.sha256) == PLACED
    assert notes.of(TINY, "ef" * 32) == ModelNote("ef" * 32)
    trio.run(notes.drop, TINY)
    assert ModelNotes(tmp_path / "models.json").of(TINY, PLACED.sha256) == ModelNote(PLACED.sha256)


def test_while_a_file_is_not_hashed_it_is_taken_for_what_was_noted(tmp_path: Path) -> None:
    notes = ModelNotes(tmp_path / "models.json")
    trio.run(notes.put, TINY, PLACED)
    assert notes.of(TINY, "") == PLACED


def test_notes_that_cannot_be_read_make_everything_its_owner_s(tmp_path: Path) -> None:
    (tmp_path / "models.json").write_text('{"tiny": {"sha256": 1')
    assert not ModelNotes(tmp_path / "models.json").of(TINY, PLACED.sha256).is_placed


def test_notes_that_cannot_be_written_are_true_until_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    notes = ModelNotes(tmp_path / "file" / "models.json")
    trio.run(notes.put, TINY, PLACED)
    assert notes.of(TINY, PLACED.sha256) == PLACED
    assert "not kept for the next start" in caplog.text
