"""Who logs never waits, whoever reads; what was dropped meanwhile is counted, and nothing else is lost."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import Queue
from threading import Semaphore

import pytest

from node import log_queue
from node.log_queue import LogQueue, raw_writer

PATIENCE = 10.0
"""Seconds for a thread to do what it is about to do. This only ends what hangs."""


class Reader:
    """Takes what is written when it is told to."""

    def __init__(self) -> None:
        self._offered: Queue[str] = Queue()
        self._wanted = Semaphore(0)
        self.is_gone = False

    def write(self, lines: str) -> None:
        self._offered.put(lines)
        self._wanted.acquire()
        if self.is_gone:
            raise BrokenPipeError

    def is_offered(self) -> list[str]:
        """The next lines, which are not read yet; of those that say what is missing only how many."""
        return [
            line.partition(" lines of this log")[0]
            for line in self._offered.get(timeout=PATIENCE).splitlines()
        ]

    def read(self, times: int = 1) -> None:
        self._wanted.release(times)


@contextmanager
def logging_to(handler: LogQueue) -> Iterator[logging.Logger]:
    """A logger that says everything to `handler` alone."""
    logger = logging.Logger("test")
    logger.addHandler(handler)
    yield logger
    handler.finish()


def test_lines_without_room_are_dropped_and_counted_where_they_are_missing() -> None:
    reader = Reader()
    with logging_to(LogQueue(reader.write, lines_max=2)) as logger:
        logger.info("a")
        assert reader.is_offered() == ["a"]
        for line in "bcdef":
            logger.info(line)
        reader.read()
        assert reader.is_offered() == ["b", "c"]
        logger.info("g")
        reader.read()
        assert reader.is_offered() == ["3", "g"]
        reader.read()


def test_what_is_missing_at_the_end_is_told_too() -> None:
    reader = Reader()
    with logging_to(LogQueue(reader.write, lines_max=1)) as logger:
        logger.info("a")
        assert reader.is_offered() == ["a"]
        logger.info("b")
        logger.info("c")
        reader.read(3)
    assert reader.is_offered() == ["b"]
    assert reader.is_offered() == ["1"]


def test_a_reader_that_is_gone_for_a_while_is_told_later_all_that_it_missed() -> None:
    reader = Reader()
    with logging_to(LogQueue(reader.write)) as logger:
        reader.is_gone = True
        logger.info("a")
        assert reader.is_offered() == ["a"]
        logger.info("b")
        logger.info("c")
        reader.read()
        assert reader.is_offered() == ["b", "c"]
        logger.info("d")
        reader.read()
        assert reader.is_offered() == ["1", "d"]
        reader.is_gone = False
        logger.info("e")
        reader.read(2)
        assert reader.is_offered() == ["2", "e"]
        reader.read()


def test_an_end_does_not_wait_for_who_never_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_queue, "_LAST_LINES_TIMEOUT", 0.01)
    reader, lines = Reader(), 9
    handler = LogQueue(reader.write, lines_max=2)
    with logging_to(handler) as logger:
        for number in range(lines):
            logger.info("%d", number)
    reader.read(lines)
    monkeypatch.undo()
    handler.finish()
    assert reader.is_offered()[0] == "0"


def test_a_pipe_that_nobody_reads_holds_nobody_up() -> None:
    """More than a pipe and the queue hold; then somebody reads, and all adds up."""
    said, room = 5000, 100
    reading, writing = os.pipe()
    with (
        ThreadPoolExecutor() as readers,
        os.fdopen(reading, encoding="utf-8") as pipe,
        os.fdopen(writing, "w", encoding="utf-8") as stderr,
    ):
        with logging_to(LogQueue(raw_writer(stderr), lines_max=room)) as logger:
            for number in range(said):
                logger.info("%d %s", number, "x" * 100)
            read = readers.submit(pipe.readlines)
        stderr.close()
        lines = read.result()
    expected = missing = 0
    for line in lines:
        if told := re.match(r"(\d+) lines of this log are missing", line):
            missing += int(told[1])
            expected += int(told[1])
        else:
            assert int(line.split()[0]) == expected
            expected += 1
    assert expected == said
    assert 0 < missing < said


def test_what_a_stream_cannot_encode_is_written_in_other_words() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="ascii") as stderr, os.fdopen(reading, encoding="ascii") as pipe:
        raw_writer(stderr)("caf\xe9\n")
        assert pipe.readline() == "caf\\xe9\n"


def test_a_stream_that_does_not_wait_is_an_error_and_no_loop() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with os.fdopen(writing, "w", encoding="utf-8") as stderr, os.fdopen(reading, encoding="utf-8"):
        write = raw_writer(stderr)
        with pytest.raises(BlockingIOError):
            write("x" * 10_000_000)
