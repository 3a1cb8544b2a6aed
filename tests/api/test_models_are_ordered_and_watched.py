"""LocalAI's calls that get models: an order is a job, and a job can be watched until it has ended."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
import trio

from api.model_manager import ModelOrder
from tests.api.stub_manager import JOB

if TYPE_CHECKING:
    from tests.api.conftest import Bench


def test_an_order_is_a_job_that_can_be_looked_at(bench: Bench) -> None:
    body = {"id": "home@tiny", "name": "mine", "overrides": {"context_size": 512}}
    reply = bench.call("POST", "/models/apply", body).json()
    assert bench.manager.orders == [ModelOrder("home@tiny", "mine", {"context_size": 512}, [])]
    assert reply["uuid"] == "7f3a"
    path = reply["status"].removeprefix("http://127.0.0.1:8080")
    assert bench.call("GET", path).json()["progress"] == 50.0


def test_a_model_can_be_ordered_by_where_it_is(bench: Bench) -> None:
    files = [{"filename": "mmproj.gguf", "uri": "https://example.org/p", "sha256": "ab" * 32}]
    bench.call("POST", "/models/apply", {"url": "hf://org/repo/tiny.gguf", "files": files})
    assert bench.manager.orders == [ModelOrder("hf://org/repo/tiny.gguf", "", {}, files)]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "id"),
        ({"id": "a", "url": "https://example.org/a"}, "url"),
        ({"id": 7}, "id"),
        ({"id": "a" * 3000}, "id"),
        ({"url": "ftp://example.org/a"}, "url"),
        ({"id": "a", "overrides": []}, "overrides"),
        ({"id": "a", "files": [{"filename": "f"}]}, "files[0].uri"),
    ],
)
def test_an_order_that_names_no_model_is_refused(bench: Bench, body: dict[str, Any], param: str) -> None:
    reply = bench.call("POST", "/models/apply", body)
    assert (reply.status, reply.json()["error"]["param"]) == (400, param)
    assert bench.manager.orders == []


def test_a_job_says_how_far_it_is_as_localai_does(bench: Bench) -> None:
    [state] = bench.call("GET", "/models/jobs").json()
    assert state == bench.call("GET", "/models/jobs/7f3a").json()
    assert (state["processed"], state["message"], state["error"]) == (False, "fetching", None)
    assert (state["file_size"], state["downloaded_size"]) == ("253.1 MB", "126.5 MB")
    assert state["job"]["sources"] == {"attic": 126_550_000}


def test_a_job_that_failed_says_why(bench: Bench) -> None:
    bench.manager.change(state="failed", reason="nobody has it")
    state = bench.call("GET", "/models/jobs/7f3a").json()
    assert (state["processed"], state["error"]) == (True, "nobody has it")


def test_there_is_no_job_that_nobody_ordered(bench: Bench) -> None:
    for path in ("/models/jobs/0", "/models/jobs/0/events"):
        assert bench.call("GET", path).status == 404
    assert bench.call("POST", "/models/jobs/0/cancel", {}).json()["error"]["code"] == "unknown_job"


def test_a_job_is_cancelled_once(bench: Bench) -> None:
    assert bench.call("POST", "/models/jobs/7f3a/cancel", {}).json()["cancelled"] is True
    assert bench.call("POST", "/models/jobs/7f3a/cancel", {}).status == 409


def test_what_is_shown_only_while_it_goes_on_can_be_cancelled_too(bench: Bench) -> None:
    bench.manager.known = {"load-org/tiny": {**JOB, "id": "load-org/tiny", "kind": "load"}}
    told = bench.call("POST", "/models/jobs/load-org/tiny/cancel", {}).json()
    assert (told["cancelled"], told["processed"]) == (True, True)
    assert bench.call("GET", "/models/jobs/load-org/tiny").status == 404


def test_a_job_that_others_need_goes_on_and_says_so(bench: Bench) -> None:
    bench.manager.needed = "requests wait for it"
    reply = bench.call("POST", "/models/jobs/7f3a/cancel", {})
    assert (reply.status, reply.json()["error"]["message"]) == (409, "requests wait for it")
    assert bench.call("GET", "/models/jobs/7f3a").json()["cancelled"] is False


def test_a_job_is_followed_until_it_has_ended(
    bench: Bench, run_mocked: Callable[[Callable[[], Awaitable[Any]]], Any]
) -> None:
    async def main() -> list[Any]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(changes)
            async with bench.open("GET", "/models/jobs/7f3a/events") as exchange:
                reply = await exchange.reply()
        return reply.events()

    async def changes() -> None:
        await trio.sleep(1)
        bench.manager.change(done_bytes=200_000_000, fraction=0.79)
        await trio.sleep(30)
        bench.manager.change(state="done", fraction=1.0)

    told = run_mocked(main)
    states = [each for each in told if isinstance(each, dict)]
    assert [each["progress"] for each in states] == [50.0, 79.0, 100.0]
    assert states[-1]["message"] == "completed"


def test_who_follows_what_is_loaded_sees_it_move_though_nobody_tells(
    bench: Bench, run_mocked: Callable[[Callable[[], Awaitable[Any]]], Any]
) -> None:
    known = bench.manager.known

    async def main() -> tuple[list[Any], float]:
        began_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(changes)
            async with bench.open("GET", "/models/jobs/7f3a/events") as exchange:
                events = (await exchange.reply()).events()
        return [each["progress"] for each in events if isinstance(each, dict)], trio.current_time() - began_at

    async def changes() -> None:
        await trio.sleep(2)
        known["7f3a"] = {**JOB, "kind": "load", "fraction": 0.79}
        await trio.sleep(2)
        del known["7f3a"]

    told, took = run_mocked(main)
    assert told == [50.0, 79.0]
    assert took < 6


def test_who_follows_a_job_and_hangs_up_leaves_nothing_behind(
    bench: Bench, run_mocked: Callable[[Callable[[], Awaitable[Any]]], Any]
) -> None:
    async def main() -> None:
        async with bench.open("GET", "/models/jobs/7f3a/events") as exchange:
            await exchange.head()
        # Leaving the block waits for the app to return.

    run_mocked(main)


def test_a_model_is_deleted_by_its_name(bench: Bench) -> None:
    assert bench.call("POST", "/models/delete/org/tiny", {}).json() == {
        "name": "org/tiny",
        "deleted": ["models/org/tiny.gguf"],
    }
    assert bench.call("POST", "/models/delete/org/tiny", {}).json()["error"]["code"] == "model_not_found"


def test_what_galleries_offer_is_listed(bench: Bench) -> None:
    reply = bench.call("GET", "/models/available")
    [model] = reply.json()
    assert (model["name"], model["gallery"], model["installed"]) == ("tiny", {"name": "home"}, True)
    assert "x-localai-warnings" not in reply.headers


@pytest.mark.parametrize(
    ("warnings", "told"),
    [
        (["gallery 'é': model 2 is left out"], ["gallery 'é': model 2 is left out"]),
        (["x" * 400] * 40, [*["x" * 400] * 10, "and more: see the log"]),
        (["x", "y" * 5000], ["x", "and more: see the log"]),
        (["é" * 4000], ["and more: see the log"]),
    ],
)
def test_what_galleries_do_not_offer_is_told_in_a_header(
    bench: Bench, warnings: list[str], told: list[str]
) -> None:
    bench.manager.warnings = warnings
    header = bench.call("GET", "/models/available").headers["x-localai-warnings"]
    assert json.loads(header) == told
    assert header.isascii()
