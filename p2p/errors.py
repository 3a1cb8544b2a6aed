"""Errors of p2p/, split by what the caller can do.

P2PError
+- BadPeerId          text that is not an Ed25519 peer id
+- BadAddress         text that is not an address of a peer
+- BadFrame           the peer sent bytes its protocol does not allow: close the stream
+- NotMsgpack         bytes that are not msgpack: each decoder has its own error for that
+- FrameTooLarge      our own message does not fit the protocol's frame: say less
+- Unreachable        no connection to that peer, or it ended: try another peer
|  +- ProtocolNotSpoken   it is there and does not speak this: an older version
+- BadToken           the join token cannot be used; the text says why
+- NotAdmitted        the peer's right to be here did not hold up in `hello`
+- ListenFailed       no address could be listened on; the text says which and why
+- BadIdentity        a key file that cannot be read or is not a key
+- BadMembership      the file of a node's place in a swarm cannot be used; the text says why
"""


class P2PError(Exception):
    """Root of what p2p/ raises."""


class BadPeerId(P2PError, ValueError):
    """Not the id of an Ed25519 key."""


class BadAddress(P2PError, ValueError):
    """Not an address of a peer."""


class BadFrame(P2PError):
    """The peer sent bytes that this protocol does not allow."""


class NotMsgpack(P2PError, ValueError):
    """Bytes that are not one msgpack value."""


class FrameTooLarge(P2PError, ValueError):
    """A message of ours that is larger than its protocol allows; nothing was sent."""


class Unreachable(P2PError):
    """No connection to the peer, or it went away."""


class ProtocolNotSpoken(Unreachable):
    """The peer is connected but does not speak the protocol."""


class BadToken(P2PError, ValueError):
    """A join token that cannot be used: cut, altered, expired, or another program's."""


class NotAdmitted(P2PError):
    """The peer did not prove its right to be in this swarm."""


class ListenFailed(P2PError):
    """None of the wanted addresses could be listened on."""


class BadIdentity(P2PError):
    """A key file that cannot be read, or that holds something else."""


class BadMembership(P2PError):
    """What a node kept of its place in a swarm was cut, altered, or is something else."""
