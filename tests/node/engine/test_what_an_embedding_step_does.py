"""The embed loop over a model whose vectors are the sizes of its texts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from node.engine.embed_loop import READ_SIZE_MAX, STEP_MAX, EmbedLoop
from node.engine.wire import (
    Accepted,
    Cancel,
    Embed,
    EmbedRequest,
    Finished,
    FromChild,
    ModelFacts,
    Piece,
    Prefilled,
    PromptPart,
    Refused,
)


class SizeModel:
    """Its tokens are bytes. A step takes as long as its tokens say."""

    def __init__(self, speed: float = 1000.0) -> None:
        self.now = 0.0
        self.speed = speed
        self.bos, self.adds_bos, self.infill = None, False, None
        self.token_size_max, self.batch_max, self.texts_max = 1, 512, 32
        self.batches: list[list[int]] = []
        self.read = 0
        self.facts = ModelFacts(512, 256, None, "", "", (), (), ("embeddings",))

    def clock(self) -> float:
        return self.now

    def self_test(self, clock: object) -> float:
        return 0.001

    def piece(self, token: int) -> bytes:
        return bytes([token])

    def tokenize(self, part: PromptPart) -> list[int]:
        self.read += len(part.text)
        return list(part.text.encode())

    def whole(self, part: PromptPart) -> list[int]:
        return self.tokenize(part)

    def paired(self, query: Sequence[int], document: Sequence[int]) -> list[int]:
        return [*query, *document]

    def embed(self, texts: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        assert sum(map(len, texts)) <= self.batch_max
        self.batches.append([len(text) for text in texts])
        self.now += sum(map(len, texts)) / self.speed
        return [np.array([len(text)], np.float32) for text in texts]


def part(text: str) -> PromptPart:
    return PromptPart(text, parse_special=False)


def new_loop(model: SizeModel) -> EmbedLoop:
    return EmbedLoop(model, model.clock)


def run(loop: EmbedLoop) -> list[FromChild]:
    messages: list[FromChild] = []
    while loop.has_work:
        messages += loop.step()
    return messages


def test_each_text_gets_its_vector() -> None:
    loop = new_loop(SizeModel())
    assert loop.handle(Embed(1, EmbedRequest((part("a"), (1, 2), part("abc"))))) == []
    accepted, *pieces, end = run(loop)
    assert accepted == Accepted(1, bytes(32), 6)
    assert isinstance(end, Finished)
    sizes = {each.choice: np.frombuffer(each.vector, "<f4")[0] for each in pieces if isinstance(each, Piece)}
    assert sizes == {0: 1.0, 1: 2.0, 2: 3.0}


def test_a_step_takes_no_longer_than_it_may() -> None:
    model = SizeModel(speed=500.0)
    loop = new_loop(model)
    loop.handle(Embed(1, EmbedRequest(tuple(part("x" * 50) for _ in range(40)))))
    began = [model.now]
    while loop.has_work:
        loop.step()
        began.append(model.now)
    assert all(after - before <= STEP_MAX + 1e-9 for before, after in itertools.pairwise(began))
    assert model.batches[1] == [50, 50, 50, 50], "as many as fit"


def test_a_text_longer_than_a_step_goes_whole_and_alone() -> None:
    model = SizeModel(speed=100.0)
    loop = new_loop(model)
    loop.handle(Embed(1, EmbedRequest((part("x"), part("y" * 300), part("z")))))
    run(loop)
    assert model.batches == [[1], [300], [1]]


def test_who_waits_hears_each_second_that_it_goes_on() -> None:
    model = SizeModel(speed=100.0)
    loop = new_loop(model)
    for request_id in range(4):
        loop.handle(Embed(request_id, EmbedRequest(tuple(part("x" * 40) for _ in range(5)))))
    spoke = dict.fromkeys(range(4), 0.0)
    messages: list[FromChild] = []
    while loop.has_work:
        said = loop.step()
        messages += said
        for request_id in {getattr(each, "id", 0) for each in said}:
            assert model.now - spoke[request_id] <= 1.0
            spoke[request_id] = model.now
    progress = [each for each in messages if isinstance(each, Prefilled)]
    assert {each.id for each in progress} == set(range(4))
    assert all(each.prefilled < each.total == 200 for each in progress)


def test_no_step_reads_more_than_a_little() -> None:
    model = SizeModel(speed=1e9)
    loop = new_loop(model)
    loop.handle(Embed(1, EmbedRequest(tuple(part("x" * 500) for _ in range(1000)))))
    loop.handle(Embed(2, EmbedRequest((part("y"),))))
    assert model.read == 0
    messages = loop.step()
    assert model.read <= READ_SIZE_MAX + 501
    assert [each.id for each in messages if isinstance(each, Finished)] == [2], "a small one does not wait"


def test_what_cannot_be_read_is_refused_by_name() -> None:
    loop = new_loop(SizeModel())
    for request_id, request in enumerate(
        [
            EmbedRequest((part("x" * 513),)),
            EmbedRequest(((1,) * 513,)),
            EmbedRequest(((256,),)),
            EmbedRequest((part(""),)),
            EmbedRequest((part("x"),), query=part("y" * 513)),
        ]
    ):
        loop.handle(Embed(request_id, request))
    refused = [each for each in run(loop) if isinstance(each, Refused)]
    assert [(each.id, each.param) for each in refused] == [
        (0, "input"),
        (1, "input"),
        (2, "input"),
        (3, "input"),
        (4, "query"),
    ]


def test_what_was_cancelled_is_neither_read_nor_embedded() -> None:
    loop = new_loop(SizeModel())
    loop.handle(Embed(1, EmbedRequest((part("x"), part("y")))))
    loop.handle(Cancel(1))
    assert not loop.has_work
    loop.handle(Embed(2, EmbedRequest((part("x"), part("y")))))
    loop.step()
    loop.handle(Cancel(2))
    assert not loop.has_work
