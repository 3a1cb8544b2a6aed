"""What a node says is lines for people or for programs, and what programs wait for always comes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from node.log import announcements, setup_logging


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    root.handlers[:], level = before
    root.setLevel(level)


def test_a_program_reads_one_json_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("info", "json")
    logging.getLogger("node.test").info("peer %s joined", "12D3\nKoo", extra={"round_trip": 0.2})
    event = json.loads(capsys.readouterr().err)
    assert (event["event"], event["level"], event["round_trip"]) == ("peer 12D3\nKoo joined", "info", 0.2)


def test_a_person_reads_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("info", "text")
    logging.getLogger("node.test").warning("peer %s is gone", "12D3")
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert "peer 12D3 is gone" in told.err


def test_what_others_call_something_is_no_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("info", "text")
    logging.getLogger("node.test").info("request", extra={"model": "a\x1b[2J\u2028b", "attempts": 2})
    told = capsys.readouterr().err
    assert r"model=a\x1b[2J\u2028b attempts=2" in told
    assert len(told.splitlines()) == 1


def test_what_is_below_the_level_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("warning", "text")
    logging.getLogger("node.test").info("nobody asked")
    logging.getLogger("libp2p").warning("not in our words")
    assert capsys.readouterr().err == ""


def test_what_programs_wait_for_comes_at_every_level(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("error", "json")
    announcements.info("ready", extra={"api": "http://127.0.0.1:8080"})
    event = json.loads(capsys.readouterr().err)
    assert (event["event"], event["api"]) == ("ready", "http://127.0.0.1:8080")


def test_a_failure_brings_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("info", "json")
    try:
        raise ValueError("odd")
    except ValueError:
        logging.getLogger("node.test").exception("a command failed")
    assert "ValueError: odd" in json.loads(capsys.readouterr().err)["exception"]
