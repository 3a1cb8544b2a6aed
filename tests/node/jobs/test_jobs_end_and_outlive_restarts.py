"""Jobs: one order is one job, each ends in one way, and a restart goes on with what ran."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from node.errors import NodeError
from node.jobs import board as board_module
from node.jobs import runner
from node.jobs.board import BEGUN_MAX, ENDED_KEPT_MAX, RUNNING_MAX, UNENDED_MAX, WAIT_MAX, Board
from node.jobs.errors import TooManyJobs
from node.jobs.job import Job, JobId, Progress
from node.jobs.job_file import read_jobs, write_jobs
from node.jobs.pace import Pace
from node.jobs.runner import Jobs, Report


def board_of(count: int) -> Board:
    board = Board()
    for number in range(count):
        board.add(JobId(f"job-{number}"), "install", f"model-{number}", {"reference": number})
    return board


def test_who_asks_for_what_is_on_its_way_is_shown_that_job() -> None:
    board = board_of(1)
    assert board.add(JobId("other"), "install", "model-0", {"reference": 0}).id == "job-0"
    board.begin(JobId("job-0"))
    board.end(JobId("job-0"), "failed", "no network")
    assert board.add(JobId("other"), "install", "model-0", {"reference": 0}).id == "other"


def test_what_has_ended_does_not_move_any_more() -> None:
    board = board_of(1)
    board.begin(JobId("job-0"))
    board.end(JobId("job-0"), "cancelled")
    board.note(JobId("job-0"), Progress("fetching", 10, 5), now=1)
    job = board.get(JobId("job-0"))
    assert job is not None
    assert (job.state, job.done_bytes) == ("cancelled", 0)


def test_the_latest_that_ended_are_kept() -> None:
    board = board_of(ENDED_KEPT_MAX + 7)
    for job in board.jobs():
        board.begin(job.id)
        board.end(job.id, "done")
    assert next(job.id for job in board.jobs()) == "job-7"
    assert len(board.jobs()) == ENDED_KEPT_MAX


def test_what_took_longer_than_all_the_others_is_kept_when_it_ends() -> None:
    board = board_of(ENDED_KEPT_MAX + 1)
    for number in [*range(1, ENDED_KEPT_MAX + 1), 0]:
        board.end(JobId(f"job-{number}"), "done")
    assert [job.id for job in board.jobs()][:2] == ["job-0", "job-2"]
    again = Board()
    again.restore(board.jobs())
    assert again.jobs() == board.jobs()


def test_where_too_many_wait_another_order_is_refused_and_one_of_theirs_is_shown() -> None:
    board = board_of(UNENDED_MAX)
    with pytest.raises(TooManyJobs, match="cancel some"):
        board.add(JobId("other"), "install", "other", {"reference": "other"})
    assert board.add(JobId("other"), "install", "model-7", {"reference": 7}).id == "job-7"
    board.end(JobId("job-7"), "cancelled")
    assert board.add(JobId("other"), "install", "other", {"reference": "other"}).id == "other"


WAITS = Progress("waiting for a peer", is_waiting=True)
GOES_ON = Progress("fetching", 10, 5)


def begin_all(board: Board, now: float) -> list[JobId]:
    """Begin every job that may run at `now`; returns which."""
    begun = []
    while (job := board.next_to_begin(now)) is not None:
        board.begin(job.id)
        begun.append(job.id)
    return begun


def test_a_job_that_only_waits_keeps_no_other_from_running() -> None:
    board = board_of(4)
    assert begin_all(board, 0) == [JobId("job-0"), JobId("job-1")]
    for job_id in ("job-0", "job-1"):
        board.note(JobId(job_id), WAITS, now=1)
    assert begin_all(board, 1) == []
    assert board.look_at(1) == 1 + WAIT_MAX
    assert begin_all(board, 1 + WAIT_MAX) == [JobId("job-2"), JobId("job-3")]


def test_who_waited_and_goes_on_runs_again() -> None:
    board = board_of(3)
    begin_all(board, 0)
    board.note(JobId("job-0"), WAITS, now=0)
    board.note(JobId("job-0"), GOES_ON, now=WAIT_MAX)
    assert begin_all(board, WAIT_MAX) == []
    board.note(JobId("job-0"), WAITS, now=WAIT_MAX)
    board.end(JobId("job-0"), "failed", "nobody has it")
    assert begin_all(board, 3 * WAIT_MAX) == [JobId("job-2")]
    assert board.look_at(3 * WAIT_MAX) == math.inf


def test_a_job_that_waits_for_a_moment_again_and_again_is_running() -> None:
    board = board_of(3)
    begin_all(board, 0)
    for second in range(0, 60, 2):
        board.note(JobId("job-0"), WAITS, now=second)
        assert begin_all(board, second + 1) == []
        board.note(JobId("job-0"), GOES_ON, now=second + 1)


def test_jobs_that_wait_are_bounded_too() -> None:
    board = board_of(BEGUN_MAX + 1)
    for number in range(BEGUN_MAX):
        begin_all(board, number * WAIT_MAX)
        for job in board.jobs():
            board.note(job.id, WAITS, now=number * WAIT_MAX)
    assert [job.id for job in board.jobs() if job.state == "queued"] == [f"job-{BEGUN_MAX}"]


def test_speed_and_time_left_are_those_of_late() -> None:
    board = board_of(1)
    board.begin(JobId("job-0"))
    for second in range(21):
        done = 10 * second if second <= 10 else 100 + 50 * (second - 10)
        board.note(JobId("job-0"), Progress("fetching", 1000, done), now=second)
    job = board.get(JobId("job-0"))
    assert job is not None
    assert job.speed == pytest.approx(50)
    assert job.eta == pytest.approx(400 / 50)


def test_what_begins_anew_has_no_negative_speed() -> None:
    pace = Pace()
    pace.note(100, 0)
    pace.note(0, 1)
    assert pace.speed(0, 1) == 0
    pace.note(30, 2)
    assert pace.speed(30, 2) == 30


def test_no_time_left_is_told_from_the_first_few_bytes() -> None:
    board = board_of(1)
    board.begin(JobId("job-0"))
    told = []
    for now, done in ((0.0, 0), (0.2, 213), (0.9, 213), (1.0, 50_000_000)):
        board.note(JobId("job-0"), Progress("fetching", 100_000_000, done), now)
        job = board.get(JobId("job-0"))
        assert job is not None
        told.append(job.eta)
    assert told == [None, None, None, pytest.approx(1)]


async def nothing_to_tidy(_: Sequence[Job]) -> None:
    await trio.lowlevel.checkpoint()


@asynccontextmanager
async def running(
    path: Path,
    perform: Callable[[Report], Awaitable[None]],
    tidy: Callable[[Sequence[Job]], Awaitable[None]] = nothing_to_tidy,
) -> AsyncIterator[Jobs]:
    jobs = Jobs(path, perform, tidy)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(jobs.run)
        yield jobs
        nursery.cancel_scope.cancel()


async def done_at_once(report: Report) -> None:
    report.progress(Progress("fetching", 10, 10, {"attic": 10}, model="tiny"))


async def never_done(_: Report) -> None:
    await trio.sleep_forever()


async def impossible(_: Report) -> None:
    raise NodeError("nobody has it")


def test_a_job_is_done_and_says_where_it_came_from(tmp_path: Path) -> None:
    async def main() -> Job:
        async with running(tmp_path / "jobs.json", done_at_once) as jobs:
            return await jobs.wait_ended(jobs.add("install", "hf://a/b", {"reference": "hf://a/b"}).id)

    job = trio.run(main)
    assert (job.state, job.model, job.sources, job.fraction) == ("done", "tiny", {"attic": 10}, 1.0)
    assert [each.id for each in read_jobs(tmp_path / "jobs.json")] == [job.id]


def test_a_job_that_fails_says_why(tmp_path: Path) -> None:
    async def main() -> Job:
        async with running(tmp_path / "jobs.json", impossible) as jobs:
            return await jobs.wait_ended(jobs.add("install", "tiny", {}).id)

    job = trio.run(main)
    assert (job.state, job.reason) == ("failed", "nobody has it")


def test_a_job_that_is_cancelled_ends_and_makes_room(tmp_path: Path) -> None:
    async def main() -> None:
        send, begun = trio.open_memory_channel[JobId](RUNNING_MAX + 1)

        async def perform(report: Report) -> None:
            await send.send(report.job.id)
            await trio.sleep_forever()

        async with running(tmp_path / "jobs.json", perform) as jobs:
            added = [jobs.add("install", f"m{number}", {"n": number}) for number in range(RUNNING_MAX + 1)]
            first = [await begun.receive() for _ in range(RUNNING_MAX)]
            assert set(first) == {job.id for job in added[:RUNNING_MAX]}
            waiting = jobs.get(added[-1].id)
            assert waiting is not None
            assert waiting.state == "queued"
            assert jobs.cancel(first[0])
            assert (await jobs.wait_ended(first[0])).state == "cancelled"
            assert await begun.receive() == added[-1].id
            assert not jobs.cancel(first[0])

    trio.run(main)


def test_the_next_job_begins_while_others_wait_and_say_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_module, "WAIT_MAX", 0.01)

    async def perform(report: Report) -> None:
        if report.job.model == "waits":
            report.progress(WAITS)
            await trio.sleep_forever()

    async def main() -> None:
        async with running(tmp_path / "jobs.json", perform) as jobs:
            for number in range(RUNNING_MAX):
                jobs.add("install", "waits", {"n": number})
            with trio.fail_after(5):
                assert (await jobs.wait_ended(jobs.add("install", "tiny", {}).id)).state == "done"

    trio.run(main)


def test_a_job_that_is_queued_can_be_cancelled(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "jobs.json", never_done, nothing_to_tidy)
    job = jobs.add("install", "tiny", {})
    assert jobs.cancel(job.id)
    ended = jobs.get(job.id)
    assert ended is not None
    assert ended.state == "cancelled"


def test_what_ran_when_the_node_ended_runs_again(tmp_path: Path) -> None:
    path = tmp_path / "jobs.json"

    async def first() -> JobId:
        begun = trio.Event()

        async def perform(_: Report) -> None:
            begun.set()
            await trio.sleep_forever()

        async with running(path, perform) as jobs:
            job = jobs.add("install", "tiny", {"reference": "demo"})
            await begun.wait()
        return job.id

    async def second(job_id: JobId) -> Job:
        async with running(path, done_at_once) as jobs:
            while jobs.get(job_id) is None:
                await jobs.revision.after(jobs.revision.number)
            return await jobs.wait_ended(job_id)

    job = trio.run(second, trio.run(first))
    assert (job.state, job.order) == ("done", {"reference": "demo"})


def test_it_is_tidied_up_before_a_job_begins_and_again_when_none_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_TIDY_INTERVAL", 0.01)
    path = tmp_path / "jobs.json"
    write_jobs(path, [Job(JobId("a"), "install", "tiny"), Job(JobId("b"), "install", "old", state="failed")])
    told: list[list[str]] = []
    again, under_way, end = trio.Event(), trio.Event(), trio.Event()

    async def tidy(unended: Sequence[Job]) -> None:
        await trio.lowlevel.checkpoint()
        assert not (under_way.is_set() and not end.is_set())
        told.append([job.id for job in unended])
        if len(told) > 2:
            again.set()

    async def perform(_: Report) -> None:
        under_way.set()
        await trio.testing.wait_all_tasks_blocked(0.05)
        end.set()

    async def main() -> None:
        async with running(path, perform, tidy):
            with trio.fail_after(5):
                await end.wait()
                assert told == [["a"]]
                await again.wait()

    trio.run(main)
    assert told[1:3] == [[], []]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[1, null, []]", '{"a": 1}', '[{"id": "x"}]', '[{"kind": "install", "state": "done"}]'],
)
def test_a_damaged_file_of_jobs_starts_anew(tmp_path: Path, content: str) -> None:
    path = tmp_path / "jobs.json"
    path.write_text(content, encoding="utf-8")
    assert read_jobs(path) == []


def test_a_job_with_a_wrong_field_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "jobs.json"
    good = Job(JobId("a"), "install", "tiny", warnings=("no hash is known",))
    write_jobs(path, [good])
    rows = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps([*rows, {**rows[0], "done_bytes": "many"}, {**rows[0], "later": 1}]))
    assert read_jobs(path) == [good, good]


def test_more_jobs_than_anybody_waits_for_are_refused(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "jobs.json", never_done, nothing_to_tidy)
    for number in range(UNENDED_MAX):
        jobs.add("install", "tiny", {"n": number})
    with pytest.raises(NodeError, match="wait already"):
        jobs.add("install", "tiny", {"n": -1})
