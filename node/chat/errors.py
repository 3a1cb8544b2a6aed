"""Errors of node/chat/, split by whose fault it is.

ChatError
+- BadChat               the client's; `param` names where
|  +- BadMessages        the messages are no chat
|  +- BadTools           the tools, or the choice among them, cannot be offered
|  +- BadConstraint      the answer cannot be held to what was asked of its form
+- TemplateFailed        the model's template refuses these messages, or is broken itself
+- GrammarRefused        a grammar cannot be run; who wrote it knows only who asked
+- RendererUnavailable   our own process for templates does not run
"""


class ChatError(Exception):
    """Root of what node/chat/ raises."""


class BadChat(ChatError):
    """A chat request is wrong, wherever it goes."""

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message)
        self.param = param


class BadMessages(BadChat):
    """The messages are no chat, wherever they go."""


class BadTools(BadChat):
    """The tools cannot be offered to any model."""


class BadConstraint(BadChat):
    """What the answer shall be like contradicts itself or the tools, or cannot be enforced."""


class TemplateFailed(ChatError):
    """The template raised, ran too long, or took too much memory."""


class GrammarRefused(ChatError):
    """A grammar does not parse, cannot be met, or costs too much. The text is one line, for who wrote it."""


class RendererUnavailable(ChatError):
    """The process that renders templates could not be started, or was killed."""
