"""Prospects: whether it is worth waiting for a model that nobody can serve now.

fetching          it comes, however long that takes: until the request's own deadline
suspect           it refutes that, or is offline, within seconds
just gone         a node that is restarted, or a laptop between two networks, comes back at the same place
failed to load    no: it is tried again every ten minutes
failed often      a circuit is open, and lets somebody try again within a minute
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from federation import directory
from federation.attempts import Attempts
from federation.backend import ModelInfo, RequestKind
from federation.errors import BadRequest, FederationError
from federation.model_reference import ModelReference
from federation.router import Survey
from ledger.records import ModelRecord
from ledger.view import NodeView

RETURN_MAX = 15.0
"""Seconds. A node that is restarted serves again after five to ten, and a suspicion in a home is over after
three; beyond that a client would rather know."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is to be expected where nobody can serve a request now."""

    patience: float
    """Seconds that it is worth waiting."""
    verdict: FederationError
    """What to say when they are over."""
    again_in: float
    """Seconds after which a sick peer may be tried again; infinite: none is waited for."""


def outlook(
    attempts: Attempts, survey: Survey, nodes: Sequence[NodeView], models: Sequence[ModelInfo]
) -> Outlook:
    """What is to be expected of `survey`, which found no candidates, for who has made `attempts`.

    Raises:
      BadRequest: the model is not one for requests of this kind.
      ModelNotFound, ModelUnavailable, Busy: nothing is, for the reasons `attempts` knows.
    """
    work = survey.work
    if directory.is_unfit(nodes, work.model, work.kind):
        raise BadRequest(f"{attempts.model} is not a model for {work.kind}", param="model")
    instead = [model.name for model in models if model.state != "failed"]
    verdict = attempts.verdict([f"{each.node_name} {each.reason}" for each in survey.excluded], instead)
    # Where an answer has to go on, `relay.py` knows for how long.
    if attempts.is_exhausted or attempts.is_onward:
        raise verdict
    others = [
        node
        for node in nodes
        if node.peer not in attempts.left_out and all(directory.is_named(node, names) for names in work.only)
    ]
    seconds = patience(others, work.model, work.kind)
    retries = [
        each.retry_in for each in survey.excluded if each.retry_in > 0 and each.peer not in attempts.left_out
    ]
    if retries:
        seconds = max(seconds, RETURN_MAX)
    if not seconds:
        raise verdict
    return Outlook(seconds, verdict, min(retries, default=math.inf))


def patience(nodes: Iterable[NodeView], wanted: ModelReference, kind: RequestKind) -> float:
    """Seconds for which it is worth waiting that somebody can serve `kind` with the `wanted` model.

    0: for nothing. Infinite: as long as the request may.
    """
    return max(
        (_patience(node, record) for node, record in directory.fit_holders(nodes, wanted, kind)), default=0.0
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
