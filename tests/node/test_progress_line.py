"""How far a job is stands in one line, however narrow the terminal."""

from __future__ import annotations

from node.jobs.job import Job, JobId
from node.progress_line import progress_line

JOB = Job(
    JobId("a1"),
    "install",
    "smollm2-135m-instruct",
    state="running",
    step="fetching model.gguf",
    size_bytes=98_400_000,
    done_bytes=33_600_000,
    sources={"one": 21_200_000, "two": 12_400_000},
    speed=23_800_000,
    eta=3,
).as_map()


def test_a_line_is_never_wider_than_the_terminal() -> None:
    for width in range(1, 160):
        assert len(progress_line(JOB, width)) <= width


def test_the_bar_goes_first_and_what_it_does_next() -> None:
    whole = progress_line(JOB)
    assert progress_line(JOB, len(whole)) == whole
    barless = progress_line(JOB, len(whole) - 1)
    assert barless == (
        "smollm2-135m-instruct   34%  33.6 MB of 98.4 MB  23.8 MB/s  3 s left  fetching model.gguf"
        "  from one 21.2 MB, two 12.4 MB"
    )
    assert progress_line(JOB, len(barless) - 1) == barless.replace("  fetching model.gguf", "")


def test_what_has_no_size_yet_says_what_it_does() -> None:
    assert progress_line({**JOB, "size_bytes": 0, "sources": {}}, 70).endswith("  fetching model.gguf")
