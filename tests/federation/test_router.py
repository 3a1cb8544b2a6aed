"""Who could serve a request, in how many seconds, and who is asked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.aliases import resolve
from federation.backend import Done, InferenceRequest, RequestId, Routing, Timings, Usage
from federation.balancer import Candidate
from federation.circuit import FAILURES_MAX
from federation.errors import Busy, Failed, FederationError, Refused
from federation.lease import Lease
from federation.router import Router, Survey
from federation.work import Work
from ledger.records import AliasRecord, Load, ModelName, ModelRecord
from ledger.view import NodeView
from p2p.peer import PeerId

ME, TINY = PeerId("me"), ModelName("tiny")
DONE = Done(("stop",), Usage(100, 50), Timings(0.0, 0.1, 1.0))


def node(name: str, *, record: dict[str, Any] | None = None, **changes: Any) -> NodeView:
    models = (ModelRecord(**{"name": TINY, "state": "loaded", "slots": 4, **(record or {})}),)
    fields = {"state": "online", "role": "worker", "version": "1", "is_connected": True, "rtt": 0.001}
    return NodeView(**{"peer": PeerId(name), "name": name, "models": models, **fields, **changes})


def request(**changes: Any) -> InferenceRequest:
    fields = {"kind": "completion", "request_id": RequestId("r"), "model": TINY, "prompt": "Count!"}
    return InferenceRequest(**{**fields, **changes})


def survey(router: Router, nodes: Sequence[NodeView], now: float = 0.0, **changes: Any) -> Survey:
    return router.survey(router.work(request(**changes)), nodes, now)


def peers(found: Survey) -> list[str]:
    return [candidate.peer for candidate in found.candidates]


def reasons(found: Survey) -> dict[str, str]:
    return {each.node_name: each.reason for each in found.excluded}


def serve(router: Router, candidate: Candidate, work: Work, began_at: float, seconds: float) -> None:
    """One answer of 50 tokens."""
    with router.lease(candidate, work, began_at) as lease:
        router.accepted(lease, 100, began_at)
        for number in range(1, 51):
            router.heard(lease, 1, seconds / 50, began_at + seconds * number / 50)
        router.ended(lease, DONE, began_at + seconds)


def one(router: Router, name: str = "a", now: float = 0.0) -> Candidate:
    return survey(router, [node(name)], now).candidates[0]


def test_what_an_answer_that_goes_on_has_read_tells_nothing_of_how_fast_prompts_are_read() -> None:
    slow = Done(("stop",), Usage(100, 5000), Timings(0.0, 60.0, 1.0))
    costs = []
    for is_resumed in (True, False):
        router = Router(ME, serves_locally=True)
        work = replace(router.work(request()), is_resumed=is_resumed)
        with router.lease(one(router), work, 0.0) as lease:
            router.ended(lease, slow, 1.0)
        costs.append(one(router, now=1.0).cost.first_token)
    assert costs[0] < costs[1] / 10


def test_only_online_nodes_that_can_serve_it_are_candidates_and_the_others_have_a_reason() -> None:
    router = Router(ME, serves_locally=True)
    nodes = [
        node("a"),
        node("b", state="suspect"),
        node("c", state="draining"),
        node("d", state="offline"),
        node("e", record={"state": "fetching"}),
        node("f", record={"state": "failed", "reason": "not GGUF"}),
        node("g", record={"name": ModelName("large")}),
    ]
    found = survey(router, nodes)
    assert peers(found) == ["a"]
    assert reasons(found) == {
        "b": "does not answer",
        "c": "is about to stop",
        "d": "has it and is offline",
        "e": "is still fetching it",
        "f": "could not load it: not GGUF",
    }


def test_a_node_we_have_no_connection_to_is_a_candidate_where_no_other_is() -> None:
    router = Router(ME, serves_locally=True)
    near, far = node("near", record={"state": "cold"}), node("far", is_connected=False, rtt=None)
    assert peers(survey(router, [far, near])) == ["near"]
    assert reasons(survey(router, [far, near])) == {"far": "is not connected, and others are"}
    assert peers(survey(router, [far])) == ["far"]


def test_where_those_that_are_connected_were_asked_in_vain_others_are_dialled() -> None:
    router = Router(ME, serves_locally=True)
    nodes = [node("near"), node("far", is_connected=False, rtt=None)]
    work = router.work(request())
    assert peers(router.survey(work, nodes, 0.0)) == ["near"]
    assert "far" in peers(router.survey(work, nodes, 0.0, left_out=frozenset({PeerId("near")})))


def test_a_front_without_a_worker_is_no_candidate_of_its_own() -> None:
    nodes = [node("me"), node("a")]
    assert peers(survey(Router(ME, serves_locally=False), nodes)) == ["a"]
    found = survey(Router(ME, serves_locally=True), nodes)
    assert [candidate.is_local for candidate in found.candidates] == [True, False]


def test_a_request_goes_only_where_it_wants_to() -> None:
    router = Router(ME, serves_locally=True)
    nodes = [node("a", labels=("gpu", "quiet")), node("b", labels=("gpu",)), node("c")]
    found = survey(router, nodes, routing=Routing(only=("gpu", "c"), prefer=("quiet",), avoid=("c",)))
    assert {each.node_name: each.rank for each in found.candidates} == {
        "a": "preferred",
        "b": "normal",
        "c": "avoided",
    }
    found = survey(router, nodes, routing=Routing(only=("a",)))
    assert peers(found) == ["a"]
    assert reasons(found)["c"] == "is none of the nodes that were asked for"


def test_an_alias_is_routed_as_its_model() -> None:
    router = Router(ME, serves_locally=True)
    alias = AliasRecord(ModelName("fast"), TINY, {"only": ["gpu"]})
    work = router.work(resolve(request(model=ModelName("fast")), {alias.alias: alias}))
    found = router.survey(work, [node("a", labels=("gpu",)), node("b")], 0.0)
    assert peers(found) == ["a"]


def test_our_own_leases_count_at_once_and_by_what_they_still_have_to_do() -> None:
    router = Router(ME, serves_locally=True)
    work = router.work(request(max_tokens=400, ignore_eos=True))
    idle = one(router).cost.total
    with router.lease(one(router), work, 0.0) as lease:
        busy = one(router)
        assert busy.leases == 1
        assert busy.cost.total > idle
        with ExitStack() as others:
            for _ in range(3):
                others.enter_context(router.lease(one(router), work, 0.0))
            full = one(router)
            assert full.is_full
            router.heard(lease, 300, 0.0, 0.5)
            assert one(router, now=0.5).cost.slot < full.cost.slot
    assert one(router).leases == 0


def test_a_request_for_several_choices_holds_as_many_slots() -> None:
    router = Router(ME, serves_locally=True)
    work = router.work(request(choices=3))
    with router.lease(router.survey(work, [node("a")], 0.0).candidates[0], work, 0.0):
        assert router.leases.count(PeerId("a"), TINY) == 3
        assert router.survey(work, [node("a")], 0.0).candidates[0].is_full
        assert not one(router).is_full
        lookup = router.work(request(kind="tokenize"))
        assert not router.survey(lookup, [node("a")], 0.0).candidates[0].is_full


def test_the_faster_peer_is_found_out_and_chosen() -> None:
    router, rng = Router(ME, serves_locally=True), Random(0)
    nodes = [node("fast"), node("slow")]
    for now in range(20):
        for candidate, seconds in zip(survey(router, nodes, now).candidates, (0.5, 2.0), strict=True):
            serve(router, candidate, router.work(request()), float(now), seconds)
    work = router.work(request())
    chosen = router.choose(router.survey(work, nodes, 20.0).candidates, work, rng)
    assert chosen is not None
    assert chosen.node_name == "fast"
    costs = {each.node_name: each.cost.decode for each in router.survey(work, nodes, 20.0).candidates}
    assert costs["slow"] / costs["fast"] == pytest.approx(4, rel=0.15)


def test_an_answer_that_is_on_its_way_shows_that_a_peer_got_slow() -> None:
    router = Router(ME, serves_locally=True)
    for now in range(10):
        serve(router, one(router), router.work(request()), float(now), 0.5)
    before = one(router, now=10.0).cost.decode
    with router.lease(one(router, now=10.0), router.work(request()), 10.0) as lease:
        for number in range(64):
            router.heard(lease, 1, 0.1, 10.0 + number / 10)
        assert one(router, now=16.4).cost.decode > 2 * before


def test_a_client_that_reads_slowly_says_nothing_about_its_peer() -> None:
    router = Router(ME, serves_locally=True)
    for now in range(10):
        serve(router, one(router), router.work(request()), float(now), 0.5)
    before = one(router, now=10.0).cost.decode
    with router.lease(one(router, now=10.0), router.work(request()), 10.0) as lease:
        for number in range(64):
            router.heard(lease, 1, 0.001, 10.0 + number)
    assert one(router, now=10.0).cost.decode == pytest.approx(before, rel=0.05)


def test_who_falls_silent_costs_more_by_the_second() -> None:
    router = Router(ME, serves_locally=True)
    with router.lease(one(router), router.work(request()), 0.0) as lease:
        router.heard(lease, 1, 0.0, 1.0)
        assert one(router, now=2.0).cost.silence == 0
        assert one(router, now=5.0).cost.silence == pytest.approx(2.5)
        assert one(router, now=9.0).cost.silence == pytest.approx(6.5)
        router.heard(lease, 0, 8.0, 9.0)
        assert one(router, now=9.0).cost.silence == 0
    assert one(router, now=99.0).cost.silence == 0


def fail(router: Router, error: FederationError, now: float) -> None:
    found = survey(router, [node("a")], now).candidates[0]
    with router.lease(found, router.work(request()), now) as lease:
        router.failed(lease, error, now)


@pytest.mark.parametrize(
    "error", [Failed("oh"), Refused("model_failed", "oh"), Refused("no_such_model", "oh")]
)
def test_a_sick_peer_is_left_out_and_then_tried_by_one_request(error: FederationError) -> None:
    router = Router(ME, serves_locally=True)
    for now in range(FAILURES_MAX):
        fail(router, error, float(now))
    found = survey(router, [node("a"), node("b")], 2.5)
    assert peers(found) == ["b"]
    assert reasons(found)["a"] == "failed 3 times in a row, and is tried again in 0.5 s"
    with router.lease(one(router, now=3.0), router.work(request()), 3.0):
        assert reasons(survey(router, [node("a")], 3.0))["a"].endswith("is being tried once more")
    # It was cancelled, which shows nothing.
    serve(router, one(router, now=4.0), router.work(request()), 4.0, 0.5)
    assert peers(survey(router, [node("a")], 5.0)) == ["a"]


@pytest.mark.parametrize("error", [Busy("full"), Refused("busy", "full"), Refused("draining", "bye")])
def test_busy_is_not_sick(error: FederationError) -> None:
    router = Router(ME, serves_locally=True)
    for now in range(10):
        fail(router, error, float(now))
    assert one(router, now=10.0).cost.failures == 0


def test_a_peer_that_fails_fast_is_not_preferred() -> None:
    router, rng = Router(ME, serves_locally=True), Random(0)
    nodes = [node("a"), node("b")]
    fail(router, Failed("at once"), 0.0)
    work = router.work(request())
    chosen = router.choose(router.survey(work, nodes, 0.1).candidates, work, rng)
    assert chosen is not None
    assert chosen.node_name == "b"


def test_a_refusal_brings_the_load_of_who_refused() -> None:
    router = Router(ME, serves_locally=True)
    fail(router, Refused("busy", "full", load=Load(4, 4)), 1.0)
    found = survey(router, [node("a"), node("b")], 1.0).candidates
    assert [each.reported_busy for each in found] == [4, 0]


def test_whoever_has_read_the_beginning_is_cheaper_and_no_rule() -> None:
    router, rng = Router(ME, serves_locally=True), Random(0)
    nodes = [node("a"), node("b")]
    prompt = "system " * 1000
    work = router.work(request(prompt=prompt))
    serve(router, router.survey(work, nodes, 0.0).candidates[0], work, 0.0, 1.0)
    serve(router, survey(router, nodes, 1.0).candidates[1], router.work(request()), 1.0, 1.0)
    found = router.survey(work, nodes, 2.0)
    assert found.candidates[0].cost.prefill < found.candidates[1].cost.prefill / 2
    taken: list[str] = []
    with ExitStack() as held:
        for _ in range(6):
            found = router.survey(work, nodes, 2.0)
            chosen = router.choose(found.candidates, work, rng)
            if chosen is None:
                break
            taken.append(chosen.node_name)
            held.enter_context(router.lease(chosen, work, 2.0))
    assert taken[0] == "a"
    assert "b" in taken


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["lease", "heard", "done", "failed", "busy", "left"]),
        st.integers(0, 5),
        st.floats(0, 5),
    ),
    max_size=60,
)


@settings(max_examples=60)
@given(EVENTS, st.integers())
def test_whatever_happens_nobody_full_or_left_out_is_chosen_and_leases_return_to_zero(
    events: list[tuple[str, int, float]], seed: int
) -> None:
    router, rng, now = Router(ME, serves_locally=True), Random(seed), 0.0
    nodes = [node("a", record={"slots": 1}), node("b", record={"slots": 2}), node("c")]
    work = router.work(request(prompt="x" * 600))
    held: list[tuple[ExitStack, Lease]] = []
    for what, number, pause in events:
        now += pause
        if what == "lease":
            found = router.survey(work, nodes, now)
            chosen = router.choose(found.candidates, work, rng)
            if chosen is not None:
                assert not chosen.is_full
                assert chosen.peer not in {each.peer for each in found.excluded}
                assert chosen.leases < chosen.slots_total
                stack = ExitStack()
                held.append((stack, stack.enter_context(router.lease(chosen, work, now))))
            assert len(found.candidates) + len(found.excluded) == len(nodes)
        elif held:
            stack, lease = held[number % len(held)]
            match what:
                case "heard":
                    router.heard(lease, number, pause, now)
                    continue
                case "done":
                    router.ended(lease, DONE, now)
                case "failed":
                    router.failed(lease, Failed("oh"), now)
                case "busy":
                    router.failed(lease, Refused("busy", "full", load=Load(4, number)), now)
            held.remove((stack, lease))
            stack.close()
    for stack, _ in held:
        stack.close()
    assert len(router.leases) == 0
    # Nobody is left out for longer than a minute, nor for want of a probe that never ended.
    assert len(router.survey(work, nodes, now + 61).candidates) == len(nodes)
