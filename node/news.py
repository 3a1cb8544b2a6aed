"""What happens in the swarm, told to the person at the terminal: one line per change, by name.

    desktop is online, mini-pc does not answer, mini-pc is offline
    qwen is loaded on this node, broken failed on this node: it is not a GGUF file

What the parts themselves log of the same moments is for whoever looks for a fault, at
level debug.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

import trio

from ledger.records import ModelName, ModelRecord
from ledger.view import NodeState, NodeView, SwarmView
from p2p.peer import PeerAddress, PeerId
from p2p.peer_events import PeerAdmitted
from p2p.swarm import Swarm

logger = logging.getLogger(__name__)

ALONE_FOR: Final = 10.0
"""Seconds after which a node that should have met somebody says that it has not: several rounds of dials."""

_WORDS: Final[Mapping[NodeState, str]] = {
    "online": "is online",
    "suspect": "does not answer",
    "draining": "is draining",
    "offline": "is offline",
}


async def tell_changes(view: SwarmView, me: PeerId) -> None:
    """Log every change of a node's state, and of our own models', until cancelled."""
    number = view.revision.number
    before: Mapping[PeerId, NodeView] = {}
    while True:
        now = {node.peer: node for node in view.nodes()}
        for line in changes(before, now, me):
            logger.info("%s", line)
        before = now
        number = await view.revision.after(number)


def changes(before: Mapping[PeerId, NodeView], now: Mapping[PeerId, NodeView], me: PeerId) -> list[str]:
    """What a person would want to know of the difference, one line each."""
    lines = []
    for peer in sorted(now):
        was = before.get(peer)
        if peer == me:
            lines += _model_changes(was.models if was else (), now[peer].models)
        elif (was.state if was else "offline") != now[peer].state:
            lines.append(f"{now[peer].name} {_WORDS[now[peer].state]}")
    lines += [f"{before[peer].name} left the swarm" for peer in sorted(set(before) - set(now))]
    return lines


def _model_changes(before: Sequence[ModelRecord], now: Sequence[ModelRecord]) -> list[str]:
    states: dict[ModelName, str] = {model.name: model.state for model in before}
    lines = []
    for model in now:
        if states.get(model.name) == model.state:
            continue
        if model.state == "loaded":
            lines.append(f"model {model.name} is ready")
        elif model.state == "failed":
            lines.append(f"model {model.name} failed: {model.reason}")
    return lines


async def warn_if_alone(members: Swarm, wanted: Sequence[PeerAddress]) -> None:
    """Say so if nobody was met within `ALONE_FOR`, although there are addresses where somebody should be."""
    if not wanted:
        return
    with members.subscribe() as events:
        with trio.move_on_after(ALONE_FOR) as waited:
            async for event in events:
                if isinstance(event, PeerAdmitted):
                    break
    if waited.cancelled_caught:
        tried = ", ".join(address.multiaddr for address in wanted)
        logger.warning(
            "no member of the swarm was reached yet (tried %s, and goes on): is one running, is it still the "
            "same swarm, and does its firewall let this port in?",
            tried,
        )
