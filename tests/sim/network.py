"""The simulated network: dials, connections, and frames on their way.

Whatever reaches a node goes through `_reach`: a node that is paused, or reads nothing,
finds it later, in order.

Nothing crosses a cut, in the direction that is cut: no frame, no goodbye, no packet of a dial, and
not the word of a system that a process is gone. Everything may be lost: of probes, and of the ledger
unless `is_tcp_exact`, the whole frame; all else is sent again.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ledger import spread as spreading
from ledger.probe import Message as ProbeMessage
from ledger.probe import from_frame_untrusted, to_frame
from ledger.sync_messages import Message as LedgerMessage
from ledger.sync_messages import decode_message_untrusted, encode_message
from p2p.peer import PeerAddress, PeerId
from tests.sim.frame_sizes import LOADS, addresses_size, ledger_size, probe_size
from tests.sim.timeline import Act
from tests.sim.wire import BANDWIDTH, LEAD_MAX, PROBES_UNREAD_MAX, WINDOW, Connection, Pipe

if TYPE_CHECKING:
    from tests.sim.node import Node
    from tests.sim.world import World

DIAL_TIMEOUT = 5.0
"""Seconds until a dial into the void is given up."""

HANDSHAKE_WAYS = 8
"""One-way trips from a dial to two open streams: TCP, the swarm's secret, Noise, HELLO, and negotiation."""

HELLO_WAYS = 3
"""Of those, the ones after which both know that they are connected: negotiation, and a HELLO each way."""

STREAM_RETRY_DELAY = 0.5
STREAM_RETRY_DELAY_MAX = 30.0
"""As `standing_streams.py` waits after a peer broke a protocol."""

CLOSE_NOTICED = (0.005, 0.2)
"""Seconds until a peer's system says that our process is gone."""

SILENCE_NOTICED = (20.0, 60.0)
"""Seconds until a system gives a connection up over which nothing is acknowledged."""


class Network:
    """Connects the nodes of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.faults = world.faults
        self.rng = world.rng
        self.line = world.timeline
        self.cut_offs: Counter[str] = Counter()
        """Why ledger streams were ended for breaking the protocol."""
        self.effects: Counter[str] = Counter()
        """How many frames each fault has met."""
        self.busy_until = 0.0
        """When the processor that all nodes share has read all probes."""
        self.unread: dict[PeerId, list[tuple[Act, Any, Any]]] = {}
        """What lies at nodes that are paused or read nothing."""

    # Connections.

    def dial(self, dialler: Node, address: PeerAddress) -> None:
        dialled = self.world.nodes.get(address.peer)
        if self._is_void(dialler, address.peer):
            self.line.at(self.line.now + DIAL_TIMEOUT, self._dial_ended, dialler, (address, None))
        elif dialled is None:  # The machine is there, and says that nobody listens.
            at = self.line.now + self._trip() + self._trip()
            self.line.at(at, self._dial_ended, dialler, (address, None))
        else:
            known_at = self.line.now + sum(self._trip() for _ in range(HANDSHAKE_WAYS))
            self.line.at(known_at, self._dial_ended, dialler, (address, dialled))

    def connect(self, dialler: Node, dialled: Node) -> None:
        """Make a connection now, unless there is one."""
        for one, other in ((dialler, dialled), (dialled, dialler)):
            pipe = one.pipes.get(other.peer)
            if pipe is not None and pipe.connection.is_open:
                return
            if pipe is not None:  # It has not heard of its end, and now it does.
                self._ended(pipe, None)
        connection = Connection(dialler, dialled)
        opened_at = self.line.now + self.faults.delay_max + self._sent_again()
        for pipe in (connection.forth, connection.back):
            self._reach(pipe.source, self._admit, pipe.source, pipe)
            # Both at once: what one writes before the other has its stream would lie there, and be read then.
            self.line.at(opened_at, self._open_streams, pipe.source, pipe)

    def close(self, node: Node, peer: PeerId, word: str) -> None:
        """`node` says goodbye to `peer`, which hears it unless they are separated."""
        pipe = node.pipes[peer]
        pipe.connection.is_open = False
        node.lose(pipe, word, is_ours=True)
        if self._is_cut(pipe):
            self._fall_silent(pipe)
        else:
            self.line.at(self.line.now + self._trip(pipe), self._ended, pipe.way_back, word)

    def abandon(self, node: Node, *, is_silent: bool) -> None:
        """The process of `node` is gone. Its peers' systems notice, sooner or later."""
        for peer in sorted(node.pipes):
            pipe = node.pipes[peer]
            is_told_already = not pipe.connection.is_open
            pipe.connection.is_open = False
            if is_told_already:
                continue
            if is_silent or self._is_cut(pipe):
                self._fall_silent(pipe)
            else:
                after = self.rng.uniform(*CLOSE_NOTICED) + self._sent_again()
                self.line.at(self.line.now + after, self._ended, pipe.way_back, None)
        self.unread.pop(node.peer, None)

    def break_connection(self, one: Node, other: Node, after: float = 0.0) -> None:
        """Both ends find that their connection does not work any more."""
        pipe = one.pipes.get(other.peer)
        if pipe is not None:
            self.line.at(self.line.now + after, self._broken, pipe)

    def cut_off(self, node: Node, peer: PeerId, why: str) -> None:
        """`node` ends the ledger's stream to `peer`, which broke its protocol. It is tried again later."""
        self.cut_offs[why] += 1
        pipe = node.pipes.get(peer)
        if pipe is None:
            return
        delay = min(STREAM_RETRY_DELAY * 2.0 ** min(pipe.retries, 10), STREAM_RETRY_DELAY_MAX)
        pipe.retries += 1
        for each in (pipe, pipe.way_back):
            each.source.tell_spread(spreading.LinkLost(each.target.peer))
            self.line.at(self.line.now + delay, self._reopen_ledger, each)

    # Frames.

    def send_probe(self, pipe: Pipe, message: ProbeMessage) -> None:
        size = probe_size(message)
        pipe.source.sent_probes += size
        if pipe.unread_probes >= PROBES_UNREAD_MAX or not self._gets_through(pipe):
            return
        if self.faults.is_exact_frames or pipe.source.is_newer:
            message, _ = from_frame_untrusted(self._extended(pipe, to_frame(message, LOADS)))
        pipe.unread_probes += 1
        at = self.line.now + self._delay(pipe)
        if self.faults.probe_cost:
            at = self.busy_until = max(self.busy_until, at) + self.faults.probe_cost
        self.line.at(at, self._probe_arrives, pipe, (message, size))
        if self.faults.replay and self._is_replayed():
            pipe.unread_probes += 1
            self.line.at(self.line.now + self.rng.random(), self._probe_arrives, pipe, (message, size))

    def send_ledger(self, pipe: Pipe, _: None = None) -> None:
        """Write what `source` owes, as long as the line takes it and the reader keeps up."""
        node, peer = pipe.source, pipe.target.peer
        if not (pipe.connection.is_open and pipe.is_linked) or node.is_paused:
            return
        pipe.is_waiting = False
        now = self.line.now
        while pipe.unread_bytes < WINDOW:
            if pipe.free_at - now > LEAD_MAX:
                pipe.is_waiting = True
                self.line.at(pipe.free_at, self._line_is_free, pipe)
                return
            message = node.spread.next_message(peer, node.now)
            if message is None:
                return
            self._send_ledger(pipe, message)
        pipe.is_waiting = True

    def _send_ledger(self, pipe: Pipe, message: LedgerMessage) -> None:
        size = ledger_size(message)
        pipe.source.sent_ledger += size
        pipe.free_at = max(self.line.now, pipe.free_at) + size / BANDWIDTH
        at = pipe.free_at + self._delay(pipe)
        if self.faults.is_tcp_exact and pipe.connection.is_open and not self._is_cut(pipe):
            at += self._sent_again()
        elif not self._gets_through(pipe):
            return
        if self.faults.is_tcp_exact or not self.faults.is_reordering:
            at = max(at, pipe.last_at)
        elif at < pipe.last_at:
            self.effects["overtaken"] += 1
        pipe.last_at = max(at, pipe.last_at)
        if self.faults.is_exact_frames or pipe.source.is_newer:
            message = decode_message_untrusted(self._extended(pipe, encode_message(message)))
        pipe.unread_bytes += size
        self.line.at(at, self._ledger_arrives, pipe, (message, size))
        if self.faults.replay and self._is_replayed():
            self.line.at(at + self.rng.random(), self._ledger_arrives, pipe, (message, 0))

    def send_addresses(self, pipe: Pipe, addresses: list[PeerAddress]) -> None:
        size = addresses_size(len(addresses))
        pipe.source.sent_control += size
        if not self._is_cut(pipe):
            self.line.at(self.line.now + self._trip(pipe), self._addresses_arrive, pipe, (addresses, size))

    # What arrives.

    def release(self, node: Node, timers: list[tuple[Act, Any, Any]]) -> None:
        """`node` reads what lies there; its late `timers` go off anywhere among it."""
        unread = self.unread.pop(node.peer, [])
        for timer in timers:
            unread.insert(self.rng.randint(0, len(unread)), timer)
        for act, one, other in unread:
            self.line.at(self.line.now, act, one, other)
        for peer in sorted(node.pipes):
            self.send_ledger(node.pipes[peer])

    def _reach(self, node: Node, act: Act, one: Any, other: Any) -> bool:
        """Do `act` to `node` if it is awake, else when it is. Whether it was done."""
        if node.is_paused or node.is_deaf:
            self.unread.setdefault(node.peer, []).append((act, one, other))
            return False
        if node.is_running:
            act(one, other)
        return True

    def _probe_arrives(self, pipe: Pipe, sent: tuple[ProbeMessage, int]) -> None:
        node = pipe.target
        if node.is_paused or node.is_deaf:
            self._reach(node, self._probe_arrives, pipe, sent)
            return
        pipe.unread_probes -= 1
        if node.is_running and pipe.connection.is_open:
            node.received += sent[1]
            self.world.trace("probe", pipe, sent[0])
            node.hear_probe(pipe.source.peer, sent[0])

    def _ledger_arrives(self, pipe: Pipe, sent: tuple[LedgerMessage, int]) -> None:
        node = pipe.target
        if node.is_paused or node.is_deaf:
            self._reach(node, self._ledger_arrives, pipe, sent)
            return
        message, size = sent
        pipe.unread_bytes -= size
        if node.is_running and pipe.connection.is_open:
            node.received += size
            self.world.trace("ledger", pipe, message)
            node.hear_ledger(pipe.source.peer, message)
            if pipe.is_waiting:
                self.send_ledger(pipe)

    def _addresses_arrive(self, pipe: Pipe, sent: tuple[list[PeerAddress], int]) -> None:
        node = pipe.target
        if node.is_paused or node.is_deaf:
            self._reach(node, self._addresses_arrive, pipe, sent)
        elif node.is_running and pipe.connection.is_open:
            node.received += sent[1]
            node.hear_addresses(sent[0])

    def _line_is_free(self, pipe: Pipe, _: None) -> None:
        if pipe.is_waiting:
            self.send_ledger(pipe)

    def _admit(self, node: Node, pipe: Pipe) -> None:
        if pipe.connection.is_open:
            node.admit(pipe)

    def _open_streams(self, node: Node, pipe: Pipe) -> None:
        if node.is_paused or node.is_deaf:
            self._reach(node, self._open_streams, node, pipe)
        elif node.is_running and pipe.connection.is_open:
            node.open_streams(pipe)

    def _reopen_ledger(self, pipe: Pipe, _: None) -> None:
        if pipe.connection.is_open and pipe.is_linked and pipe.source.is_running:
            pipe.source.tell_spread(spreading.LinkOpened(pipe.target.peer))

    def _dial_ended(self, dialler: Node, dialled: tuple[PeerAddress, Node | None]) -> None:
        address, node = dialled
        if dialler.is_paused or dialler.is_deaf:
            self._reach(dialler, self._dial_ended, dialler, dialled)
        elif dialler.is_running:
            is_reached = node is not None and node.is_running and not self._is_void(dialler, node.peer)
            dialler.book.dial_ended(address, is_reached, dialler.now)
            if is_reached and node is not None:
                self.connect(dialler, node)
            dialler.attend_door()

    def _ended(self, pipe: Pipe, word: str | None) -> None:
        """`source` hears that its connection is gone."""
        node = pipe.source
        if node.is_paused or node.is_deaf:
            self._reach(node, self._ended, pipe, word)
        elif node.is_running:
            node.lose(pipe, word)

    def _broken(self, pipe: Pipe, _: None) -> None:
        if pipe.connection.is_open:
            pipe.connection.is_open = False
            self._ended(pipe, None)
            self._ended(pipe.way_back, None)

    # Luck.

    def _is_void(self, one: Node, peer: PeerId) -> bool:
        """Whether a dial of `peer` gets no answer at all."""
        other = self.world.nodes.get(peer)
        is_asleep = peer in self.world.dark or (other is not None and (other.is_paused or other.is_deaf))
        faults = self.faults
        return is_asleep or faults.separate(one.peer, peer) or faults.separate(peer, one.peer)

    def _extended(self, pipe: Pipe, frame: dict[str, Any]) -> dict[str, Any]:
        """`frame` as a later version of the program writes it, if `source` runs one."""
        if not pipe.source.is_newer:
            return frame
        self.effects["from a later version"] += 1
        return {**frame, "from_the_future": ["?"]}

    def _fall_silent(self, pipe: Pipe) -> None:
        """The other end of `pipe` is told nothing: its system gives up when nothing is acknowledged."""
        self.line.at(self.line.now + self.rng.uniform(*SILENCE_NOTICED), self._ended, pipe.way_back, None)

    def _is_cut(self, pipe: Pipe) -> bool:
        is_cut = self.faults.separate(pipe.source.peer, pipe.target.peer)
        self.effects["cut off"] += is_cut
        return is_cut

    def _gets_through(self, pipe: Pipe) -> bool:
        if not pipe.connection.is_open:
            return False
        faults = self.faults
        if (faults.island or faults.cut) and self._is_cut(pipe):
            return False
        if faults.loss and self.rng.random() < faults.loss:
            self.effects["lost"] += 1
            return False
        return True

    def _is_replayed(self) -> bool:
        if self.rng.random() < self.faults.replay:
            self.effects["replayed"] += 1
            return True
        return False

    def _trip(self, pipe: Pipe | None = None) -> float:
        """Seconds until something arrives that is sent again until it does."""
        return self._delay(pipe) + self._sent_again()

    def _sent_again(self) -> float:
        """Seconds lost because something was lost, maybe more than once."""
        loss, late_by = self.faults.loss, 0.0
        while loss and self.rng.random() < loss:
            self.effects["sent again"] += 1
            late_by += self.faults.retransmission
        return late_by

    def _delay(self, pipe: Pipe | None = None) -> float:
        faults = self.faults
        delay = faults.delay_min + (faults.delay_max - faults.delay_min) * self.rng.random()
        if faults.slow and pipe is not None and (late_by := faults.slow.get(pipe.target.peer)):
            self.effects["slowed"] += 1
            delay += late_by
        return delay
