"""What a node says is lines for people or for programs, and what programs wait for always comes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from node.log import announcements, logging_to_stderr

logger = logging.getLogger("node.test")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    root.handlers[:], level = before
    root.setLevel(level)


def test_a_program_reads_one_json_object_per_line(capfd: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr("info", "json"):
        logger.info("peer %s joined", "12D3\nKoo", extra={"round_trip": 0.2})
    event = json.loads(capfd.readouterr().err)
    assert (event["event"], event["level"], event["round_trip"]) == ("peer 12D3\nKoo joined", "info", 0.2)


def test_a_person_reads_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr("info", "text"):
        logger.warning("peer %s is gone", "12D3")
    told = capfd.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert "peer 12D3 is gone" in told.err


def test_what_others_call_something_is_no_line_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr("info", "text"):
        logger.info("request", extra={"model": "a\x1b[2J\u2028b", "attempts": 2})
    told = capfd.readouterr().err
    assert r"model=a\x1b[2J\u2028b attempts=2" in told
    assert len(told.splitlines()) == 1


def test_what_is_below_the_level_is_not_said(capfd: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr("warning", "text"):
        logger.info("nobody asked")
        logging.getLogger("libp2p").warning("not in our words")
    assert capfd.readouterr().err == ""


def test_what_programs_wait_for_comes_at_every_level(capfd: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr("error", "json"):
        announcements.info("ready", extra={"api": "http://127.0.0.1:8080"})
    event = json.loads(capfd.readouterr().err)
    assert (event["event"], event["api"]) == ("ready", "http://127.0.0.1:8080")


def test_a_failure_brings_its_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr("info", "json"):
        try:
            raise ValueError("odd")
        except ValueError:
            logger.exception("a command failed")
    assert "ValueError: odd" in json.loads(capfd.readouterr().err)["exception"]


def test_all_that_was_said_is_written_however_it_ends(capfd: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        with logging_to_stderr("info", "json"):
            for number in range(3000):
                logger.info("%d", number)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    lines = capfd.readouterr().err.splitlines()
    assert [json.loads(line)["event"] for line in lines] == [str(number) for number in range(3000)]
