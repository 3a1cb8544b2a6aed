"""Errors of node/install/, one line each, made to be shown to a person.

InstallError (a NodeError)
+- TakesNoModels      this node runs no models, or may not take more of them in
+- UnreadableOrder    another version of this program wrote it: ask again
+- NotFound           no node that is here has it, and no gallery says where it is
+- NotSame            what peers gave is not what they said it was: nothing of it is used
"""

from __future__ import annotations

from node.errors import NodeError


class InstallError(NodeError):
    """Root of what node/install/ raises."""


class TakesNoModels(InstallError):
    """No model can come here."""


class UnreadableOrder(InstallError):
    """An order that is kept, and says what this version does not know."""


class NotFound(InstallError):
    """A name that nobody knows, or whom to ask cannot be reached."""


class NotSame(InstallError):
    """The files of a manifest are not what it says."""
