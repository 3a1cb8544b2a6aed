"""Prospects: whether it is worth waiting for a model that nobody can serve now.

fetching          it comes, however long that takes: until the request's own deadline
suspect           it refutes that, or is offline, within seconds
just gone         a node that is restarted, or a laptop between two networks, comes back at the same place
failed to load    no: it is tried again every ten minutes
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from federation import directory
from federation.backend import RequestKind
from ledger.records import ModelName, ModelRecord
from ledger.view import NodeView

RETURN_MAX = 15.0
"""Seconds. A node that is restarted serves again after five to ten, and a suspicion in a home is over after
three; beyond that a client would rather know."""


def patience(nodes: Iterable[NodeView], model: ModelName, kind: RequestKind) -> float:
    """Seconds for which it is worth waiting that somebody can serve a request of `kind` for `model`.

    0: for nothing. Infinite: as long as the request may.
    """
    return max(
        (_patience(node, record) for node, record in directory.fit_holders(nodes, model, kind)), default=0.0
    )


def _patience(node: NodeView, record: ModelRecord) -> float:
    if record.state == "failed":
        return 0.0
    if node.state in ("online", "suspect") and record.state == "fetching":
        return math.inf
    if node.state == "suspect":
        return RETURN_MAX
    if node.state in ("draining", "offline") and node.last_seen is not None and node.last_seen < RETURN_MAX:
        return RETURN_MAX
    return 0.0
