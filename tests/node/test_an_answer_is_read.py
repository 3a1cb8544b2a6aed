"""Answers of a chat as their client reads them: each choice ends once, with all that was held back."""

from __future__ import annotations

from federation.backend import AnswerEvent, Chunk, Delivered, Done, Timings, Usage
from node.answer_reader import AnswerReader
from node.chat.answer_parser import AnswerParser
from node.chat.reasoning import ReasoningSplitter

DONE = Done(("length", "stop"), Usage(1, 2), Timings())


def reader(resumed: tuple[str, ...] = (), delivered: tuple[Delivered, ...] = ()) -> AnswerReader:
    parsers = [AnswerParser(ReasoningSplitter("possible")) for _ in range(2)]
    return AnswerReader(parsers, resumed, delivered)


def read(subject: AnswerReader, *events: AnswerEvent) -> list[AnswerEvent]:
    return [said for event in events for said in subject.read(event)]


def test_what_was_held_back_comes_with_the_end_of_its_choice() -> None:
    assert read(reader(), Chunk(0, (1,), "<thi", finish_reason="length")) == [
        Chunk(0, (1,), ""),
        Chunk(0, (), "<thi", finish_reason="length"),
    ]


def test_a_choice_of_which_nobody_heard_the_end_ends_with_the_answer() -> None:
    assert read(reader(), Chunk(0, (1,), "<thi"), Chunk(1, (2,), "b", finish_reason="stop"), DONE) == [
        Chunk(0, (1,), ""),
        Chunk(1, (2,), "b", finish_reason="stop"),
        Chunk(0, (), "<thi", finish_reason="length"),
        DONE,
    ]


def test_what_was_delivered_is_not_said_again() -> None:
    subject = reader(("<thi", "<thi"), (Delivered((1,), "length"), Delivered((2,))))
    assert read(subject, DONE) == [
        Chunk(1, (), "<thi", finish_reason="stop"),
        DONE,
    ]
