"""What is said of a load: neither every step of thousands, nor nothing for long."""

from __future__ import annotations

from node.engine.load_progress import LoadProgress
from node.engine.wire import Loading


def test_a_load_in_ten_thousand_steps_is_a_hundred_messages() -> None:
    progress = LoadProgress(lambda: 7.0)
    said = [message for step in range(10_001) for message in progress.read(step / 10_000)]
    assert said[0] == Loading(0.0)
    assert 90 <= len(said) <= 101


def test_a_load_that_hardly_moves_is_told_once_a_second() -> None:
    seconds = iter(range(10_000))
    progress = LoadProgress(lambda: next(seconds) / 100)
    said = [message for step in range(1000) for message in progress.read(step / 1_000_000)]
    assert len(said) == 10
