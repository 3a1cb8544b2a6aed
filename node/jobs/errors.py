"""Errors of node/jobs/.

JobsError (a NodeError)
+- TooManyJobs      as many wait as anybody would: cancel some, or ask again later
+- JobGoesOn        it cannot be cancelled now; says why
"""

from __future__ import annotations

from node.errors import NodeError


class JobsError(NodeError):
    """Root of what node/jobs/ raises."""


class TooManyJobs(JobsError):
    """No more jobs are taken now."""


class JobGoesOn(JobsError):
    """Others need what it does."""
