"""Errors of node/models/, one line each, made to be shown to a person.

ModelError (a NodeError)
+- BadModelFile           this file cannot be served as it is
|  +- ModelFileMissing        nothing there, or a folder
|  +- ModelFileUnreadable     the system does not let us read it
|  +- NotGguf                 a file of another kind
|  +- ModelFileTruncated      it stops too early: copy or download it again
|  +- ModelTooLarge           it does not fit this machine's memory
+- BadModelName           text that cannot be a model's name
+- BadModelYaml           settings that cannot be understood; says which file and key
+- ModelNameTaken         another file of this node has that name
+- UnknownModel           this node has no such model
+- CannotStoreModel       the models folder could not be written
+- DemoModelMissing       the package with the bundled model is not installed
+- ModelFileChanged       it was written to while it was being hashed
"""

from __future__ import annotations

from node.errors import NodeError


class ModelError(NodeError):
    """Root of what node/models/ raises."""


class BadModelFile(ModelError):
    """The file cannot be served as it is."""


class ModelFileMissing(BadModelFile):
    """There is no file at that path."""


class ModelFileUnreadable(BadModelFile):
    """The system does not let us read the file."""


class NotGguf(BadModelFile):
    """The file is something else than a GGUF model this program can read."""


class ModelFileTruncated(BadModelFile):
    """The file stops before what its header promises."""


class ModelTooLarge(BadModelFile):
    """The file is larger than this machine's memory."""


class BadModelName(ModelError, ValueError):
    """Text that cannot be a model's name."""


class BadModelYaml(ModelError, ValueError):
    """A settings file that cannot be understood."""


class ModelNameTaken(ModelError):
    """Another file of this node has that name already."""


class UnknownModel(ModelError):
    """This node has no model of that name."""


class CannotStoreModel(ModelError):
    """The models folder could not be written: a full disk, no permission."""


class DemoModelMissing(ModelError):
    """The package with the bundled model is not installed."""


class ModelFileChanged(ModelError):
    """The file was written to while it was being hashed."""
