"""One node, from start to goodbye.

run_node        network and ledger, opened in this order and closed in the other
  Node.run      every part in one nursery (`node/parts.py` wires them)
    ready       it listens, it answers: only now is anybody told where
    stop        SIGTERM, Ctrl-C, `leave`, or the end of stdin
    goodbye     finish what runs, then say *away* while the connections still stand
"""

from __future__ import annotations

import logging
import math
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import trio

import node
from api.app import create_app
from api.serve import ServerAddress, serve
from api.settings import ApiSettings
from ledger.entry import Author
from ledger.ledger import Ledger
from ledger.records import LEAVE_KEY, NODE_KEY, ModelRecord
from node.config import NodeConfig
from node.control_commands import ControlCommands
from node.control_server import serve_control
from node.errors import NodeError
from node.hardware import describe_machine, machine_names
from node.home import NodeState
from node.ledger_addresses import follow_addresses
from node.listening import listen_attempts
from node.news import tell_changes, warn_if_alone
from node.parts import Parts, wire
from node.place import node_identity, shareable
from node.stop_signals import STOP_SIGNALS
from p2p.errors import ListenFailed
from p2p.hello import AWAY, LEAVE
from p2p.identity import Identity
from p2p.known_peer import Origin
from p2p.libp2p_network import Libp2pNetwork
from p2p.mdns import find_members
from p2p.membership import SwarmMembership
from p2p.peer import PeerAddress, PeerId
from p2p.secret import derive_mdns_service_name, derive_psk

logger = logging.getLogger(__name__)

_DRAIN_GRACE = 20.0
"""Seconds that running answers get after SIGTERM: service managers kill after 90, people sooner."""
_LAST_WORDS_TIMEOUT = 1.0
"""Seconds for all to take in the entry that says so; who reads nothing for longer is frozen."""
_STATE_INTERVAL = 60.0
"""Seconds between two notes of where peers are while nobody comes: their addresses change unannounced."""
_STATE_PAUSE = 1.0
"""Seconds at least between two: each waits for the disk, and a swarm may arrive all at once."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Where a node that has just started can be found."""

    api: str
    peer_id: PeerId
    addresses: tuple[PeerAddress, ...]
    models: tuple[ModelRecord, ...]
    """What this node serves, or would if it could be loaded."""


async def run_node(config: NodeConfig, place: SwarmMembership, on_ready: Callable[[Ready], None]) -> None:
    """Run the node of `config` until it is told to stop. Cancelled: it ends at once, without goodbye.

    Raises:
      AddressInUse, ListenFailed: an address cannot be used.
      BadIdentity, HomeDamaged, StoreError: a file of the home cannot be used.
      CopiedIdentity: another living node writes with our key.
    """
    home = config.home
    identity = node_identity(home)
    state = home.load_state()
    hardware = await trio.to_thread.run_sync(describe_machine)
    running: Node | None = None
    try:
        async with AsyncExitStack() as stack:
            attempts = listen_attempts(config.listen, state.listen)
            network = await _open_network(stack, identity, place, attempts)
            boot_id = secrets.token_hex(8)
            author = Author(identity, place.credential)
            ledger = Ledger.open(home.ledger_file, author, place.founder_public_key, boot_id)
            stack.callback(ledger.close)
            parts = wire(config, place, network, ledger, boot_id=boot_id, hardware=hardware)
            parts.members.add_addresses(state.peers, Origin.KEPT)
            running = Node(config, place, network, parts)
            await running.run(on_ready, known=(*place.bootstrap, *state.peers))
    finally:
        # Also if the disk was too full for a last entry: the others have heard it.
        if running is not None and running.has_said_farewell and place.invite is None:
            # The founder and admins keep their place: without it nobody could be invited ever again.
            home.forget_swarm()


async def _open_network(
    stack: AsyncExitStack, identity: Identity, place: SwarmMembership, attempts: Iterable[Sequence[str]]
) -> Libp2pNetwork:
    """A network that listens on the first of `attempts` that works; `stack` closes it.

    Raises:
      ListenFailed: none does; says why for the last.
    """
    failure: ListenFailed | None = None
    for listen in attempts:
        opening = Libp2pNetwork.open(identity, derive_psk(place.secret), listen=listen)
        try:
            network = await stack.enter_async_context(opening)
        except ListenFailed as error:
            failure = error
            continue
        if failure is not None:
            logger.info("listening on %s instead: %s", ", ".join(network.bound_multiaddrs), failure)
        return network
    assert failure is not None, "there is always something to listen on"
    raise failure


class Node:
    """Runs the parts, and ends them in the right order."""

    def __init__(
        self, config: NodeConfig, place: SwarmMembership, network: Libp2pNetwork, parts: Parts
    ) -> None:
        self._config = config
        self._place = place
        self._network = network
        self._parts = parts
        self._stop = trio.Event()
        self._grace = _DRAIN_GRACE
        self._goodbye_said = trio.Event()
        self._http_stop = trio.Event()
        self._http_ended = trio.Event()
        self._has_left = False
        """Its place was given up: it will not come back by itself."""

    @property
    def has_said_farewell(self) -> bool:
        """It has left, and the others were told."""
        return self._has_left and self._goodbye_said.is_set()

    async def run(self, on_ready: Callable[[Ready], None], known: Sequence[PeerAddress]) -> None:
        """Run until told to stop, then say goodbye. Cancelled: every part ends at once.

        `known`: where members should be found.
        """
        async with trio.open_nursery() as nursery:
            await self._start_parts(nursery)
            await nursery.start(self._tell_news, known)
            nursery.start_soon(self._stop_on_signals, nursery.cancel_scope)
            if self._config.exit_with_stdin:
                nursery.start_soon(self._stop_with_stdin)
            address: ServerAddress = await nursery.start(self._serve_http)
            commands = ControlCommands(self._parts, self._network, address.url, self.leave)
            await nursery.start(serve_control, self._config.home, commands.handlers())
            nursery.start_soon(self._keep_state)
            on_ready(self._ready(address.url))
            await self._stop.wait()
            await self._say_goodbye()
            self._config.home.save_state(self._state())
            nursery.cancel_scope.cancel()

    def _ready(self, api: str) -> Ready:
        local = self._parts.local
        models = tuple(local.model_records()) if local is not None else ()
        return Ready(api, self._network.me, tuple(shareable(self._network.listen_addresses)), models)

    async def leave(self, grace: float) -> None:
        """Finish what runs, for at most `grace` seconds, give the place up, and stop.

        Returns when the others were told. Cancelled: the node goes on with it.

        Raises:
          NodeError: it is stopping already.
        """
        if self._stop.is_set():
            raise NodeError("this node is stopping already")
        self._has_left = True
        self._grace = grace
        self._stop.set()
        await self._goodbye_said.wait()

    async def _start_parts(self, nursery: trio.Nursery) -> None:
        parts = self._parts
        nursery.start_soon(parts.ledger.run)
        await nursery.start(parts.members.run)
        nursery.start_soon(parts.replicator.run)
        nursery.start_soon(parts.prober.run)
        nursery.start_soon(parts.view.run)
        if parts.gated is not None:
            nursery.start_soon(parts.gated.run)
        nursery.start_soon(parts.feeds.run)
        nursery.start_soon(parts.front.run)
        signed = partial(parts.members.add_addresses, origin=Origin.SIGNED)
        nursery.start_soon(follow_addresses, parts.ledger, signed, parts.members.forget)
        if parts.local is not None:
            await nursery.start(parts.local.run)
        nursery.start_soon(parts.publisher.run)
        if parts.models is not None:
            nursery.start_soon(parts.models.run)
        if self._config.mdns:
            nursery.start_soon(
                find_members,
                derive_mdns_service_name(self._place.secret),
                self._network.me,
                lambda: self._network.listen_addresses,
                partial(parts.members.add_addresses, origin=Origin.NEARBY),
            )

    async def _serve_http(self, *, task_status: trio.TaskStatus[ServerAddress]) -> None:
        config = self._config
        settings = ApiSettings(node.__version__, config.api_keys, config.api.host, machine_names())
        app = create_app(self._parts.front, settings, self._parts, self._parts.manager)
        # How long running answers get is decided in one place, by whoever says goodbye.
        serving = partial(serve, app, config.api.host, config.api.port, stop=self._http_stop, grace=math.inf)
        await serving(task_status=task_status)
        self._http_ended.set()

    async def _say_goodbye(self) -> None:
        """Take nothing new, finish what runs, and tell everybody: in their ledgers and in person."""
        self._http_stop.set()
        with trio.move_on_after(self._grace) as patience:
            # Those we serve to others, and those others serve to clients of ours.
            await self._parts.drain()
            await self._http_ended.wait()
        if patience.cancelled_caught:
            logger.warning("answers that did not finish within %g s are cut off", self._grace)
        if self._has_left:
            self._parts.publisher.leave()
        else:
            self._parts.publisher.set_presence("away")
        with trio.move_on_after(_LAST_WORDS_TIMEOUT):
            await self._parts.replicator.say_last_word(LEAVE_KEY if self._has_left else NODE_KEY)
        await self._parts.members.say_bye(LEAVE if self._has_left else AWAY)
        self._goodbye_said.set()

    async def _stop_on_signals(self, everything: trio.CancelScope) -> None:
        with trio.open_signal_receiver(*STOP_SIGNALS) as signals:
            async for _ in signals:
                if self._stop.is_set():
                    everything.cancel()  # Told a second time: whoever does that does not want to wait.
                    return
                logger.info(
                    "stopping: what runs gets %g s to finish; once more to stop at once", _DRAIN_GRACE
                )
                self._stop.set()

    async def _stop_with_stdin(self) -> None:
        # os.read, because a thread inside `sys.stdin` would hold its lock while the interpreter ends.
        while await trio.to_thread.run_sync(os.read, 0, 4096, abandon_on_cancel=True):
            pass
        self._stop.set()

    async def _keep_state(self) -> None:
        """Note where peers are as soon as they are met: after a power cut there is no other way back."""
        said = ""
        with self._parts.members.subscribe() as events:
            while True:
                try:
                    # In a thread: it waits for the disk.
                    await trio.to_thread.run_sync(self._config.home.save_state, self._state())
                    said = ""
                except NodeError as error:
                    # A full disk, mostly. We serve without, and the swarm holds on to us meanwhile.
                    if str(error) != said:
                        said = str(error)
                        logger.warning("%s", said)
                await trio.sleep(_STATE_PAUSE)
                with trio.move_on_after(_STATE_INTERVAL):
                    await events.receive()

    def _state(self) -> NodeState:
        return NodeState(tuple(self._network.bound_multiaddrs), tuple(self._parts.members.known_addresses()))

    async def _tell_news(self, known: Sequence[PeerAddress], *, task_status: trio.TaskStatus[None]) -> None:
        """Until the goodbye: what happens to our connections then is our own doing, and no news."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_changes, self._parts.view, self._network.me)
            nursery.start_soon(warn_if_alone, self._parts.members, known)
            task_status.started()
            await self._http_stop.wait()
            nursery.cancel_scope.cancel()
