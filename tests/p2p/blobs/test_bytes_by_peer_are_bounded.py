"""What is counted of peers does not grow with those that come and go."""

from __future__ import annotations

from p2p.blobs.peer_bytes import PeerBytes
from p2p.peer import PeerId


def test_those_that_came_first_are_forgotten() -> None:
    counted = PeerBytes()
    peers = [PeerId(f"peer {number}") for number in range(2000)]
    for peer in peers:
        counted.note(peer, 3)
        counted.note(peer, 4)
    assert len(counted) == 1024
    assert counted[peers[-1]] == 7
    assert peers[0] not in counted
