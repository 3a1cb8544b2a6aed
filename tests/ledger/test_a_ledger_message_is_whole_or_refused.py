"""The decoder of the ledger protocol: right answers for right bytes, one exception for all others."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.sync_messages import (
    FRAME_SIZE_MAX,
    Buckets,
    Entries,
    Held,
    Holdings,
    Message,
    News,
    Owners,
    Root,
    Wanted,
    decode_message_untrusted,
    encode_message,
)
from ledger.version import Version
from p2p.errors import BadFrame
from p2p.framing import FrameDecoder, encode_frame
from p2p.peer import peer_id_of

ALICE, BOB = peer_id_of(bytes([1]) * 32), peer_id_of(bytes([2]) * 32)
DIGEST = bytes(range(16))
MESSAGES: list[Message] = [
    Root(DIGEST),
    Buckets((DIGEST,) * 32),
    Owners((1, 2), {ALICE: DIGEST, BOB: DIGEST}),
    Owners((), {}),
    Holdings({ALICE: (Held("node", Version(1, 2), DIGEST), Held("model/a", Version(1, 3), DIGEST)), BOB: ()}),
    Wanted({ALICE: ("node",), BOB: ("model/a", "model/b")}),
    Entries((b"one", b"two")),
    News((b"one",)),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    frame = encode_frame(encode_message(message), FRAME_SIZE_MAX)
    whole = FrameDecoder(FRAME_SIZE_MAX).feed_untrusted(frame)
    decoder = FrameDecoder(FRAME_SIZE_MAX)
    in_pieces = [each for byte in frame for each in decoder.feed_untrusted(bytes([byte]))]
    assert [decode_message_untrusted(each) for each in whole + in_pieces] == [message, message]


def test_keys_of_a_later_version_are_ignored() -> None:
    assert decode_message_untrusted({**encode_message(Root(DIGEST)), "later": [1]}) == Root(DIGEST)


@pytest.mark.parametrize(
    "frame",
    [
        {},
        {"kind": "later"},
        {"kind": ["root"], "digest": DIGEST},
        {"kind": "root"},
        {"kind": "root", "digest": DIGEST[1:]},
        {"kind": "buckets", "digests": DIGEST},
        {"kind": "owners", "buckets": [32], "owners": []},
        {"kind": "owners", "buckets": [-1], "owners": []},
        {"kind": "owners", "buckets": [1], "owners": [[bytes(31), DIGEST]]},
        {"kind": "owners", "buckets": [1], "owners": {"a": 1}},
        {"kind": "holdings", "owners": [[bytes(32), [["node", 1, 1]]]]},
        {"kind": "holdings", "owners": [[bytes(32), [["node", 1, -1, DIGEST]]]]},
        {"kind": "wanted", "owners": [[bytes(32), "node"]]},
        {"kind": "entries", "entries": ["text"]},
        {"kind": "news", "entries": b"bytes"},
    ],
)
def test_a_message_of_another_shape_is_refused(frame: dict[str, Any]) -> None:
    with pytest.raises(BadFrame):
        decode_message_untrusted(frame)
