"""A thousand clients that stream at once where there are four slots: some wait, others are sent away."""

from __future__ import annotations

import gc
from collections import Counter
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from api.app import create_app
from api.settings import ApiSettings
from federation.relay import Relay
from federation.waiting_room import WAITING_MAX
from tests import mock_time
from tests.api.conftest import StubStatus
from tests.asgi import Reply, open_request
from tests.federation.conftest import MODEL, Swarm, make_swarm

CLIENTS = 1000
SLOTS = 2
"""Of each of two peers."""
ANSWER = 0.3
"""Seconds that one takes."""
TIMEOUT = 600.0
"""Seconds until nobody wants an answer any more, as the API has it."""
WORDS = ["one", " two", " three"]


@dataclass
class Flood:
    """Clients of one front, and what they got."""

    swarm: Swarm
    replies: list[Reply] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    """Seconds until the end, of those with a key of their own."""

    def __post_init__(self) -> None:
        self.app = create_app(self.swarm.front, ApiSettings("1.0", api_keys=("many", "few")), StubStatus())

    async def ask(self, key: str, headers: dict[str, str | None] | None = None) -> Reply:
        body = {"model": MODEL, "prompt": "Count!", "stream": True}
        sent = {"authorization": f"Bearer {key}", **(headers or {})}
        async with open_request(
            self.app, "POST", "/v1/completions", json_body=body, headers=sent
        ) as exchange:
            return await exchange.reply()

    async def be_one_of_many(self) -> None:
        self.replies.append(await self.ask("many"))

    async def be_one_of_few(self) -> None:
        came = trio.current_time()
        reply = await self.ask("few")
        assert is_whole(reply)
        self.waited.append(trio.current_time() - came)

    def living(self) -> int:
        """Requests of which anything is kept."""
        gc.collect()
        return sum(isinstance(each, Relay) for each in gc.get_objects())


def is_whole(reply: Reply) -> bool:
    if reply.status != 200:
        return False
    *events, last = reply.events()
    said = [choice["text"] for event in events for choice in event.get("choices", ())]
    return last == "[DONE]" and "".join(said) == "".join(WORDS)


def reason_of(reply: Reply) -> str:
    """How one ended that was not served, and was told so: before its stream began, or in it."""
    if reply.status == 200:
        (error,) = [event["error"] for event in reply.events() if "error" in event]
    else:
        assert int(reply.headers["retry-after"]) >= 1
        error = reply.json()["error"]
    assert error["message"]
    return f"{reply.status} {error['code']}"


def test_a_thousand_streams_at_once_wait_or_are_told_when_to_come_and_others_are_served() -> None:
    async def main() -> None:
        async with make_swarm("a", "b", slots=SLOTS) as swarm:
            for worker in swarm.workers.values():
                worker.gap = ANSWER / len(WORDS)
            flood = Flood(swarm)
            async with trio.open_nursery() as nursery:
                for _ in range(CLIENTS):
                    nursery.start_soon(flood.be_one_of_many)
                await trio.testing.wait_all_tasks_blocked()
                kept = WAITING_MAX + 2 * SLOTS
                assert swarm.front.waiting()[MODEL].waiting == WAITING_MAX
                assert len(flood.replies) == CLIENTS - kept
                assert flood.living() <= kept
                for _ in range(10):
                    nursery.start_soon(flood.be_one_of_few)
                    await trio.sleep(1)
            ends = Counter("whole" if is_whole(each) else reason_of(each) for each in flood.replies)
            # The first of the few found a full room, in which the last of the many made place for it.
            assert ends == {"whole": kept - 1, "429 busy": CLIENTS - kept + 1}
            assert len(flood.waited) == 10
            assert max(flood.waited) < 3 * ANSWER
            assert swarm.front.waiting() == {}
            assert flood.living() == 0

    mock_time.run(main)


def test_of_streams_that_wait_in_vain_each_is_told_so_at_its_deadline() -> None:
    async def main() -> None:
        async with make_swarm("a", "b", slots=SLOTS) as swarm:
            for worker in swarm.workers.values():
                worker.gap = 10.0
            flood = Flood(swarm)
            begun = trio.current_time()
            async with trio.open_nursery() as nursery:
                for _ in range(2 * SLOTS + WAITING_MAX):
                    nursery.start_soon(flood.be_one_of_many)
            ends = Counter("whole" if is_whole(each) else reason_of(each) for each in flood.replies)
            assert trio.current_time() - begun == pytest.approx(TIMEOUT, abs=1)
            assert ends.keys() == {"whole", "200 no_slot_in_time", "200 deadline_exceeded"}
            # Those that had a slot at the deadline; of the others each slot served one every thirty seconds.
            assert ends["200 deadline_exceeded"] <= 2 * SLOTS
            assert ends["whole"] >= 2 * SLOTS * (TIMEOUT / 30 - 1)
            assert flood.living() == 0

    mock_time.run(main)
