"""Errors of node/jobs/.

TooManyJobs (a NodeError)     as many wait as anybody would: cancel some, or ask again later
"""

from __future__ import annotations

from node.errors import NodeError


class TooManyJobs(NodeError):
    """No more jobs are taken now."""
