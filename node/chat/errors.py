"""Errors of node/chat/, split by whose fault it is.

ChatError
+- BadMessages           the client sent what is no chat; `param` names where
+- TemplateFailed        the model's template refuses these messages, or is broken itself
+- RendererUnavailable   our own process for templates does not run
"""


class ChatError(Exception):
    """Root of what node/chat/ raises."""


class BadMessages(ChatError):
    """The messages are no chat, wherever they go."""

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message)
        self.param = param


class TemplateFailed(ChatError):
    """The template raised, ran too long, or took too much memory."""


class RendererUnavailable(ChatError):
    """The process that renders templates could not be started, or was killed."""
