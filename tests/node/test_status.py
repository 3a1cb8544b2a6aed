"""`/api/swarm` tells what is known of each node, and `status` prints it for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from federation.lease import Lease, Leases
from federation.model_reference import ModelReference
from federation.waiting_room import Waiting
from federation.work import Work
from ledger.records import Load, ModelName, ModelRecord
from ledger.view import NodeView
from node.status import swarm_status
from node.status_table import render_status
from p2p.peer import PeerId

ME, BOB = PeerId("me"), PeerId("bob")
TINY = ModelName("tiny")
DESKTOP = NodeView(
    ME,
    "desktop",
    "online",
    "worker",
    "1.2",
    rtt=0.0,
    last_seen=0.0,
    models=(ModelRecord(TINY, "loaded", ("chat",), slots=4),),
    loads={TINY: Load(4, 1, 2)},
    hardware={"cores": 8},
)
MACBOOK = NodeView(
    BOB,
    "macbook",
    "online",
    "worker",
    "1.1",
    rtt=0.00251,
    last_seen=0.304,
    models=(ModelRecord(TINY, "loaded", ("chat",), slots=2),),
)


def row(
    node: NodeView,
    leases: Leases | None = None,
    fractions: Mapping[ModelName, float] = MappingProxyType({}),
) -> dict[str, object]:
    status = swarm_status("home", ME, [node], leases or Leases(), loaded_fractions=fractions)
    [row] = status["nodes"]
    assert isinstance(row, dict)
    return row


def test_a_row_has_what_the_api_promises() -> None:
    assert row(DESKTOP) == {
        "id": "me",
        "name": "desktop",
        "state": "online",
        "role": "worker",
        "version": "1.2",
        "rtt_ms": 0.0,
        "last_seen_s": 0.0,
        "slots_total": 4,
        "slots_busy": 1,
        "queued": 2,
        "models": [{"name": "tiny", "state": "loaded", "capabilities": ["chat"]}],
        "hardware": {"cores": 8},
        "labels": [],
        "weight": 1.0,
        "models_size_max": 0,
        "warnings": [],
    }


def lease(peer: PeerId) -> Lease:
    return Lease(peer, TINY, Work(ModelReference(TINY)), began_at=0.0, slots=1)


def test_labels_and_weight_are_shown() -> None:
    shown = row(replace(MACBOOK, labels=("gpu", "quiet"), weight=2.0), Leases())
    assert (shown["labels"], shown["weight"]) == (["gpu", "quiet"], 2.0)


def test_our_own_leases_count_before_the_peer_reports_them() -> None:
    leases = Leases()
    with leases.hold(lease(BOB)):
        assert row(MACBOOK, leases)["slots_busy"] == 1
    assert row(MACBOOK, leases)["slots_busy"] == 0


def test_what_others_run_there_counts_as_well() -> None:
    leases = Leases()
    busy = replace(MACBOOK, loads={TINY: Load(2, 2)})
    with leases.hold(lease(BOB)):
        assert row(busy, leases)["slots_busy"] == 2


def test_a_node_that_reported_nothing_yet_has_the_slots_of_its_record() -> None:
    assert row(MACBOOK)["slots_total"] == 2


def test_an_offline_node_is_busy_with_nothing() -> None:
    leases = Leases()
    dead = replace(DESKTOP, state="offline")
    with leases.hold(lease(ME)):
        shown = row(dead, leases)
    assert (shown["slots_total"], shown["slots_busy"], shown["queued"]) == (0, 0, 0)


def test_a_node_that_was_never_heard_has_no_numbers() -> None:
    shown = row(replace(MACBOOK, rtt=None, last_seen=None))
    assert (shown["rtt_ms"], shown["last_seen_s"]) == (None, None)


def test_a_model_that_failed_says_why() -> None:
    failed = replace(DESKTOP, models=(ModelRecord(TINY, "failed", reason="not GGUF"),))
    assert row(failed)["models"] == [
        {"name": "tiny", "state": "failed", "capabilities": [], "reason": "not GGUF"}
    ]


def test_a_model_says_which_file_it_is_once_that_is_known() -> None:
    hashed = replace(DESKTOP, models=(ModelRecord(TINY, "loaded", sha256="ab" * 32),))
    assert row(hashed)["models"] == [
        {"name": "tiny", "state": "loaded", "capabilities": [], "sha256": "ab" * 32}
    ]


def test_a_model_of_an_attached_server_says_what_runs_it() -> None:
    attached = replace(DESKTOP, models=(ModelRecord(TINY, "loaded", program="Ollama"),))
    assert row(attached)["models"] == [
        {"name": "tiny", "state": "loaded", "capabilities": [], "program": "Ollama"}
    ]
    assert table(attached)[-1].endswith("tiny in Ollama")
    failed = ModelRecord(ModelName("large"), "failed", reason="gone", program="Ollama")
    assert table(replace(DESKTOP, models=(failed,)))[-1].endswith("large in Ollama (failed: gone)")


def test_how_far_a_model_is_loaded_is_known_of_our_own() -> None:
    loading = (ModelRecord(TINY, "loading", ("chat",)),)
    ours, theirs = replace(DESKTOP, models=loading), replace(MACBOOK, models=loading)
    expected = {"name": "tiny", "state": "loading", "capabilities": ["chat"]}
    assert row(theirs, fractions={TINY: 0.421})["models"] == [expected]
    assert row(ours, fractions={TINY: 0.421})["models"] == [{**expected, "loaded_fraction": 0.421}]
    assert table(theirs, ours)[-2].endswith("tiny (loading 42%)")


def test_how_far_a_model_is_fetched_is_known_of_our_own() -> None:
    fetching = (ModelRecord(TINY, "fetching", is_placed=True),)
    nodes = [replace(DESKTOP, models=fetching), replace(MACBOOK, models=fetching)]
    status = swarm_status("home", ME, nodes, Leases(), fetched_fractions={TINY: 0.421})
    ours, theirs = (row["models"] for row in status["nodes"])
    expected = {"name": "tiny", "state": "fetching", "capabilities": [], "is_placed": True}
    assert (ours, theirs) == ([{**expected, "fetched_fraction": 0.421}], [expected])
    assert [line.rpartition("tiny")[2] for line in render_status(status).splitlines()[3:]] == [
        " (fetching 42%)",
        " (fetching)",
    ]


def test_what_cannot_be_done_of_what_is_wanted_is_a_warning_with_names_for_ids() -> None:
    wanted = {"replicas": 0, "nodes": ["bob"], "is_everywhere": False, "planned": [], "held": []}
    placements = [
        {"model": "tiny", **wanted, "problem": "bob takes no models in"},
        {"model": "large", **wanted, "problem": ""},
    ]
    status = swarm_status("home", ME, [DESKTOP, MACBOOK], Leases(), placements=placements)
    assert status["placements"] == placements
    assert render_status(status).splitlines()[5:] == [
        "warning: tiny is wanted on macbook, but macbook takes no models in"
    ]


def test_it_is_json() -> None:
    status = swarm_status("home", ME, [DESKTOP, MACBOOK], Leases())
    assert json.loads(json.dumps(status)) == status


def table(*nodes: NodeView, waiting: Mapping[ModelName, Waiting] = MappingProxyType({})) -> list[str]:
    status = swarm_status("home", ME, nodes, Leases(), loaded_fractions={TINY: 0.421}, waiting=waiting)
    return render_status(status).splitlines()


def test_who_waits_here_is_shown_per_model() -> None:
    waiting = {TINY: Waiting(3, 12.345, 20.5), ModelName("large"): Waiting(1, 0.0, None)}
    assert swarm_status("home", ME, [DESKTOP], Leases(), waiting=waiting)["waiting"] == [
        {"model": "tiny", "waiting": 3, "oldest_s": 12.35, "estimate_s": 20.5},
        {"model": "large", "waiting": 1, "oldest_s": 0.0, "estimate_s": None},
    ]
    assert table(DESKTOP, waiting=waiting)[-2:] == [
        "waiting for tiny: 3, the first for 12 s, about 20 s for one more",
        "waiting for large: 1, the first for 0 s",
    ]


def test_the_table_has_a_line_per_node_ours_first() -> None:
    loading = replace(MACBOOK, models=(ModelRecord(TINY, "loading", slots=2),))
    assert table(loading, DESKTOP) == [
        "swarm home: 2 of 2 nodes online",
        "",
        "NODE                 STATE   ROLE    SLOTS  RTT     SEEN       MODELS",
        "desktop (this node)  online  worker  1/4    0.0 ms  -          tiny",
        "macbook              online  worker  0/2    2.5 ms  0.3 s ago  tiny (loading)",
    ]


def test_the_table_counts_only_nodes_that_are_online() -> None:
    assert table(DESKTOP, replace(MACBOOK, state="suspect"))[0] == "swarm home: 1 of 2 nodes online"
    assert table(DESKTOP)[0] == "swarm home: 1 node"


def test_the_table_says_why_a_model_failed_and_what_is_unknown() -> None:
    failed = replace(
        MACBOOK, rtt=None, last_seen=None, models=(ModelRecord(TINY, "failed", reason="not GGUF"),)
    )
    assert table(DESKTOP, failed)[-1].split()[4:] == ["-", "-", "tiny", "(failed:", "not", "GGUF)"]
    assert table(replace(DESKTOP, models=()))[-1].endswith("-")


def test_warnings_come_last() -> None:
    assert table(replace(DESKTOP, warnings=("two files are called tiny",)))[-1] == (
        "warning: two files are called tiny"
    )


def test_what_is_not_well_on_this_node_is_a_warning_of_its_own_row() -> None:
    clash = replace(DESKTOP, warnings=("two files are called tiny",))
    ours, theirs = swarm_status("home", ME, [clash, MACBOOK], Leases(), warning="it is full")["nodes"]
    assert (ours["warnings"], theirs["warnings"]) == (["two files are called tiny", "it is full"], [])


def test_names_from_other_machines_cannot_steer_the_terminal() -> None:
    shown = "".join(table(DESKTOP, replace(MACBOOK, name="\x1b[2Jmac\nbook", warnings=("\x07",))))
    assert "?[2Jmac?book" in shown
    assert shown.isprintable()
