"""Notes on models survive a restart, and what a person asks for is not the swarm's to take away any more."""

from __future__ import annotations

from pathlib import Path

from ledger.records import ModelName
from node.install.model_notes import ModelNote, ModelNotes

TINY = ModelName("tiny")
PLACED = ModelNote("ab" * 32, "source:cd", is_placed=True)


def test_what_was_noted_is_there_after_a_restart(tmp_path: Path) -> None:
    ModelNotes(tmp_path / "models.json").put(TINY, PLACED)
    notes = ModelNotes(tmp_path / "models.json")
    assert notes.of(TINY, PLACED.sha256) == PLACED
    assert notes.of(TINY, "ef" * 32) == ModelNote("ef" * 32)
    notes.drop(TINY)
    assert not ModelNotes(tmp_path / "models.json").placed()


def test_what_a_person_wants_is_not_the_swarm_s_any_more(tmp_path: Path) -> None:
    notes = ModelNotes(tmp_path / "models.json")
    notes.put(TINY, PLACED)
    assert notes.own(TINY)
    assert not notes.own(TINY)
    assert not notes.own(ModelName("other"))
    again = ModelNotes(tmp_path / "models.json")
    assert not again.placed()
    assert again.of(TINY, PLACED.sha256).source == "source:cd"


def test_notes_that_cannot_be_read_make_everything_its_owner_s(tmp_path: Path) -> None:
    (tmp_path / "models.json").write_text('{"tiny": {"sha256": 1')
    assert not ModelNotes(tmp_path / "models.json").placed()
