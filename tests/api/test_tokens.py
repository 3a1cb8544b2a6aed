"""Text and token ids, into each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from federation.backend import Chunk, Done, Timings, Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.conftest import Bench

END = Done((), Usage(3, 0), Timings())


@pytest.mark.parametrize(("said", "adds"), [(None, False), (False, False), (True, True)])
def test_a_text_becomes_ids(new_bench: Callable[..., Bench], said: bool | None, adds: bool) -> None:
    bench = new_bench(script=[Chunk(0, (1, 2), ""), Chunk(0, (3,), ""), END])
    body = {"model": "stub", "content": "Grüße 🙂", "add_special": said}
    assert bench.call("POST", "/v1/tokenize", body).json() == {"tokens": [1, 2, 3]}
    [request] = bench.backend.requests
    assert (request.kind, request.prompt, request.adds_special) == ("tokenize", "Grüße 🙂", adds)
    assert not request.is_streamed


def test_ids_become_a_text(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench(script=[Chunk(0, (), "Grü"), Chunk(0, (), "ße"), END])
    body = {"model": "stub", "tokens": [1, 2, 3]}
    assert bench.call("POST", "/v1/detokenize", body).json() == {"content": "Grüße"}
    [request] = bench.backend.requests
    assert (request.kind, request.prompt) == ("detokenize", (1, 2, 3))


def test_nothing_becomes_nothing(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench(script=[END])
    assert bench.call("POST", "/v1/tokenize", {"model": "stub", "content": ""}).json() == {"tokens": []}
    assert bench.call("POST", "/v1/detokenize", {"model": "stub", "tokens": []}).json() == {"content": ""}


@pytest.mark.parametrize(
    ("path", "said", "param"),
    [
        ("/v1/tokenize", {}, "content"),
        ("/v1/tokenize", {"content": ["a"]}, "content"),
        ("/v1/tokenize", {"content": "\ud800"}, "content"),
        ("/v1/tokenize", {"content": "a", "add_special": 1}, "add_special"),
        ("/v1/detokenize", {}, "tokens"),
        ("/v1/detokenize", {"tokens": "a"}, "tokens"),
        ("/v1/detokenize", {"tokens": [1, -1]}, "tokens[1]"),
        ("/v1/detokenize", {"tokens": [2**31]}, "tokens[0]"),
    ],
)
def test_a_wrong_parameter_is_named(bench: Bench, path: str, said: dict[str, Any], param: str) -> None:
    reply = bench.call("POST", path, {"model": "stub", **said})
    assert (reply.status, reply.json()["error"]["param"]) == (400, param)
    assert bench.backend.requests == []
