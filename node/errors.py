"""Errors a person at a terminal can cause or meet; each is one line that says what to do.

NodeError             it failed                                   -> exit 1
+- HomeLocked         another node runs in this home
+- HomeDamaged        a file of the home cannot be read or is not what it should be
+- NotRunning         no node runs in this home, and the command needs one
+- NoAnswer           a node runs there, and did not answer
+- CommandRefused     the running node said no; the text is its reason
+- ModelError         about a model or its file; its tree is in `models/errors.py`
+- SourceError        about where a model comes from; its tree is in `sources/errors.py`
+- WrongUse           it cannot work as asked for                 -> exit 2
   +- ForeignSwarm       the home belongs to another swarm than the token

`cli.py` has the exit codes of the other folders' errors.
"""

from __future__ import annotations


class NodeError(Exception):
    """Root of what node/ tells its person. `str()` is one line."""


class HomeLocked(NodeError):
    """Another node holds this home."""


class HomeDamaged(NodeError):
    """A file of the home is unreadable or not what it should be."""


class NotRunning(NodeError):
    """The command talks to a running node, and none runs in this home."""


class NoAnswer(NodeError):
    """The node is there and did not answer; what it was asked may have happened."""


class CommandRefused(NodeError):
    """The running node answered with a reason instead of a result."""


class WrongUse(NodeError):
    """What was asked for cannot work; nothing was changed."""


class ForeignSwarm(WrongUse):
    """A token of one swarm was given to a home that belongs to another."""
