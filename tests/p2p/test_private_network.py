"""The private network's cipher against published vectors, and its stream against rough transports."""

from __future__ import annotations

import hashlib

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from p2p.private_network import PrivateStream, hsalsa20, xsalsa20

# "Cryptography in NaCl", sections 8 to 10, and NaCl's own tests core1, core2 and stream.
FIRST_KEY = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
SECOND_KEY = bytes.fromhex("dc908dda0b9344a953629b733820778880f3ceb421bb61b91cbd4c3e66256ce4")
NONCE = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")

PSK = b"k" * 32


def test_hsalsa20_derives_the_published_keys() -> None:
    assert hsalsa20(SHARED, bytes(16)) == FIRST_KEY
    assert hsalsa20(FIRST_KEY, NONCE[:16]) == SECOND_KEY


def test_xsalsa20_makes_the_published_stream() -> None:
    stream = xsalsa20(FIRST_KEY, NONCE).encrypt(bytes(4 * 1024 * 1024))
    assert stream[:32].hex() == "eea6a7251c1e72916d11c2cb214d3c252539121d8e234e652d651fa4c8cff880"
    assert hashlib.sha512(stream).hexdigest() == (
        "2bd8e7db6877539e4f2b295ee415cd378ae214aa3beb3e08e911a5bd4a25e6ac"
        "16ca283c79c34c08c99f7bdb560111e8cac1ae65eea08ac384d7a591461ab6e3"
    )


class Cable(trio.abc.Stream):
    """Keeps what is sent, and delivers `arriving` a few bytes at a time."""

    def __init__(self, arriving: bytes = b"", piece_size: int = 1000) -> None:
        self.sent = b""
        self._arriving = arriving
        self._piece_size = piece_size

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)

    async def wait_send_all_might_not_block(self) -> None: ...

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        size = min(max_bytes or self._piece_size, self._piece_size)
        piece, self._arriving = self._arriving[:size], self._arriving[size:]
        return piece

    async def aclose(self) -> None: ...


async def sent_by(pieces: list[bytes]) -> bytes:
    cable = Cable()
    stream = PrivateStream(cable, PSK)
    for piece in pieces:
        await stream.send_all(piece)
    return cable.sent


@given(pieces=st.lists(st.binary(max_size=100), max_size=8), piece_size=st.integers(1, 40))
def test_what_is_sent_arrives_however_the_bytes_are_cut(pieces: list[bytes], piece_size: int) -> None:
    async def main() -> None:
        stream = PrivateStream(Cable(await sent_by(pieces), piece_size), PSK)
        arrived = b""
        while data := await stream.receive_some():
            arrived += data
        assert arrived == b"".join(pieces)

    trio.run(main)


def test_the_nonce_goes_first_and_once_and_is_new_each_time() -> None:
    async def main() -> None:
        nonces = set()
        for _ in range(4):
            sent = await sent_by([b"hello", b"again"])
            nonce, rest = sent[:24], sent[24:]
            assert xsalsa20(PSK, nonce).decrypt(rest) == b"helloagain"
            nonces.add(nonce)
        assert len(nonces) == 4

    trio.run(main)


@pytest.mark.parametrize("cut", [0, 1, 23, 24])
def test_an_end_inside_or_right_after_the_nonce_is_the_end(cut: int) -> None:
    async def main() -> None:
        assert await PrivateStream(Cable(bytes(cut), piece_size=5), PSK).receive_some() == b""

    trio.run(main)


def test_a_wrong_key_reads_noise() -> None:
    async def main() -> None:
        sent = await sent_by([b"hello" * 10])
        assert await PrivateStream(Cable(sent), PSK).receive_some() == b"hello" * 10
        assert b"hello" not in await PrivateStream(Cable(sent), b"x" * 32).receive_some()

    trio.run(main)
