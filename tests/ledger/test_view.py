"""The view joins what the ledger says with who is alive and how busy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ledger.beliefs import PeerHealth
from ledger.entry import Author
from ledger.ledger import Ledger
from ledger.probe import Loads
from ledger.records import LeaveRecord, Load, ModelName, ModelRecord, NodeRecord, OwnRecord, Presence
from ledger.rumour import UNKNOWN, Claim, Status
from ledger.view import NodeState, NodeView, SwarmView
from p2p.peer import PeerId
from p2p.revision import Revision
from tests.ledger.people import author, open_ledger
from tests.ledger.whole_nodes import until_shown
from tests.mock_time import run

ME, BOB, CAROL = (author(number) for number in (1, 2, 3))
GUEST = author(4, "client")
MODEL = ModelName("smollm2")
BUSY = {MODEL: Load(4, 3)}


class FakeLiveness:
    """Says what it is told to say."""

    def __init__(self) -> None:
        self.revision = Revision()
        self.healths: dict[PeerId, PeerHealth] = {}
        self.said_loads: dict[PeerId, Loads] = {}

    def now(self) -> float:
        return trio.current_time()

    def health(self, peer: PeerId) -> PeerHealth:
        return self.healths.get(peer, PeerHealth())

    def loads(self, peer: PeerId) -> Loads:
        return self.said_loads.get(peer, {})

    def set(self, someone: Author, status: Status, loads: Loads | None = None) -> None:
        claim = UNKNOWN if status is Status.UNKNOWN else Claim(0, status)
        self.healths[someone.peer] = PeerHealth(claim, is_linked=True, heard_at=0.0, round_trip=0.002)
        self.said_loads[someone.peer] = loads or {}
        self.revision.rise()


class World:
    """A view, and what it looks at."""

    def __init__(self) -> None:
        self.ledger = open_ledger(ME)
        self.liveness = FakeLiveness()
        self.own_loads: Loads = {}
        self.view = SwarmView(self.ledger, self.liveness, lambda: self.own_loads)
        self._writers: dict[PeerId, Ledger] = {}

    def write(self, someone: Author, record: OwnRecord) -> None:
        if someone is ME:
            self.ledger.put_record(record)
            return
        writer = self._writers.setdefault(someone.peer, open_ledger(someone))
        writer.put_record(record)
        for entry in writer.entries():
            self.ledger.receive(entry.encoded, someone.peer)

    def row(self, someone: Author) -> NodeView:
        return next(node for node in self.view.nodes() if node.peer == someone.peer)


def node(name: str, presence: Presence = "here") -> NodeRecord:
    return NodeRecord(name, "worker", "1.2", presence, hardware={"cores": 8})


@pytest.mark.parametrize(
    ("presence", "status", "state"),
    [
        ("here", Status.ALIVE, "online"),
        ("here", Status.SUSPECT, "suspect"),
        ("here", Status.OFFLINE, "offline"),
        ("here", Status.UNKNOWN, "offline"),
        ("draining", Status.ALIVE, "draining"),
        ("draining", Status.SUSPECT, "suspect"),
        ("draining", Status.OFFLINE, "offline"),
        ("away", Status.ALIVE, "offline"),
    ],
)
def test_a_state_is_the_worse_of_what_a_node_says_and_what_is_seen(
    presence: Presence, status: Status, state: NodeState
) -> None:
    async def main() -> None:
        world = World()
        world.write(BOB, node("bob", presence))
        world.liveness.set(BOB, status)
        assert world.row(BOB).state == state

    run(main)


def test_a_peer_that_may_not_serve_has_no_models_whatever_it_says() -> None:
    async def main() -> None:
        world = World()
        for someone, models in ((BOB, [MODEL]), (GUEST, [])):
            world.write(someone, node("bob"))
            world.write(someone, ModelRecord(MODEL, "loaded", ("chat",)))
            world.liveness.set(someone, Status.ALIVE)
            assert [model.name for model in world.row(someone).models] == models

    run(main)


def test_a_row_has_all_that_is_known() -> None:
    async def main() -> None:
        world = World()
        model = ModelRecord(MODEL, "loaded", ("chat",), sha256="ab" * 32, slots=4)
        world.write(BOB, node("bob"))
        world.write(BOB, model)
        world.liveness.set(BOB, Status.ALIVE, BUSY)
        await trio.sleep(7)
        assert world.row(BOB) == NodeView(
            peer=BOB.peer,
            name="bob",
            state="online",
            role="worker",
            version="1.2",
            rtt=0.002,
            last_seen=trio.current_time(),
            is_connected=True,
            models=(model,),
            loads=BUSY,
            hardware={"cores": 8},
        )

    run(main)


def test_our_own_row_is_there_and_needs_no_probe() -> None:
    async def main() -> None:
        world = World()
        world.write(ME, node("me"))
        world.own_loads = BUSY
        row = world.row(ME)
        assert (row.state, row.rtt, row.last_seen, row.loads) == ("online", 0.0, 0.0, BUSY)
        world.write(ME, node("me", "draining"))
        await trio.sleep(0.6)
        assert world.row(ME).state == "draining"

    run(main)


def test_an_offline_node_is_busy_with_nothing() -> None:
    async def main() -> None:
        world = World()
        world.write(BOB, node("bob"))
        world.liveness.set(BOB, Status.OFFLINE, BUSY)
        assert world.row(BOB).loads == {}

    run(main)


def test_who_left_is_not_listed_nor_who_said_nothing_yet() -> None:
    async def main() -> None:
        world = World()
        world.write(BOB, node("bob"))
        world.write(BOB, LeaveRecord("bob"))
        world.write(CAROL, ModelRecord(MODEL, "cold"))
        assert world.view.nodes() == []

    run(main)


def test_nodes_come_sorted_by_name() -> None:
    async def main() -> None:
        world = World()
        for someone, name in ((ME, "cellar"), (BOB, "attic"), (CAROL, "bathroom")):
            world.write(someone, node(name))
        assert [row.name for row in world.view.nodes()] == ["attic", "bathroom", "cellar"]

    run(main)


@pytest.mark.parametrize(
    ("files", "warned"),
    [
        (("a" * 64, "a" * 64), []),
        (("a" * 64, ""), []),
        (("a" * 64, "b" * 64), ["bob", "carol"]),
    ],
)
def test_one_name_for_two_files_is_a_warning_on_both_nodes(files: tuple[str, str], warned: list[str]) -> None:
    async def main() -> None:
        world = World()
        for someone, name, sha256 in ((BOB, "bob", files[0]), (CAROL, "carol", files[1])):
            world.write(someone, node(name))
            world.write(someone, ModelRecord(MODEL, "cold", sha256=sha256))
        assert [row.name for row in world.view.nodes() if row.warnings] == warned

    run(main)


def test_nothing_is_looked_up_again_until_something_changes() -> None:
    async def main() -> None:
        world = World()
        world.write(BOB, node("bob"))
        first = world.row(BOB)
        assert world.row(BOB) is first
        world.liveness.set(BOB, Status.ALIVE)
        second = world.row(BOB)
        assert (first.state, second.state) == ("offline", "online")
        await trio.sleep(0.6)
        assert world.row(BOB).last_seen == trio.current_time()

    run(main)


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        (lambda world: world.write(CAROL, node("carol")), lambda rows: len(rows) == 2),
        (lambda world: world.liveness.set(BOB, Status.ALIVE), lambda rows: rows[0].state == "online"),
        (lambda world: world.liveness.set(BOB, Status.SUSPECT, BUSY), lambda rows: rows[0].loads == BUSY),
    ],
    ids=["record", "status", "load"],
)
def test_a_change_of_any_source_wakes_who_waits(
    change: Callable[[World], None], holds: Callable[[Sequence[NodeView]], bool]
) -> None:
    async def main() -> None:
        world = World()
        world.write(BOB, node("bob"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.view.run)
            with trio.fail_after(1.0):
                async with trio.open_nursery() as waiting:
                    waiting.start_soon(until_shown, world.view, holds)
                    await wait_all_tasks_blocked()
                    change(world)
            nursery.cancel_scope.cancel()

    run(main)
