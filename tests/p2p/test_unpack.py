"""What is unpacked takes memory by its length, whatever it announces."""

from __future__ import annotations

import tracemalloc

import msgpack
import pytest

from p2p.errors import NotMsgpack
from p2p.unpack import GROWTH_MAX, unpack_untrusted

SIZE = 16 * 1024


def nested_promises() -> bytes:
    """Lists in lists, each of which announces as many items as there are bytes."""
    header = b"\xdd" + (SIZE - 8).to_bytes(4, "big")
    return (header * 500).ljust(SIZE, b"\xc0")


def memory_of(data: bytes) -> int:
    """What is taken at most while `data` is unpacked."""
    tracemalloc.start()
    try:
        unpack_untrusted(data)
    except NotMsgpack:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


def test_lists_that_announce_more_than_follows_take_no_room() -> None:
    assert memory_of(nested_promises()) < 4 * SIZE


def test_what_is_too_short_to_be_walked_through_can_announce_little() -> None:
    header = b"\xdc" + (64).to_bytes(2, "big")
    assert 16 * 1024 < memory_of((header * 42).ljust(127, b"\xc0")) < 24 * 1024


@pytest.mark.parametrize(
    "item", [b"\x80", b"\x90", b"\x81\xa0\x80", b"\x81\xa0\xc0", b"\xde\x00\x00", b"\xa2\xc4\x80"]
)
def test_the_dearest_values_there_are_take_no_more_than_is_said(item: bytes) -> None:
    count = (SIZE - 5) // len(item)
    data = b"\xdd" + count.to_bytes(4, "big") + item * count
    assert SIZE < memory_of(data) <= GROWTH_MAX * len(data)


@pytest.mark.parametrize(
    "data", [b"", b"\x81\xa1a", b"\x80\x80", b"\xc1", b"\xa1\xff", b"\x91" * 3000, b"\x81\x01\x02"]
)
def test_what_is_not_one_value_is_refused(data: bytes) -> None:
    with pytest.raises(NotMsgpack):
        unpack_untrusted(data)


def test_keys_that_cannot_be_keys_are_refused_where_others_are_allowed() -> None:
    assert unpack_untrusted(b"\x81\x01\x02", strict_map_key=False) == {1: 2}
    with pytest.raises(NotMsgpack):
        unpack_untrusted(b"\x81\x90\x02", strict_map_key=False)


def test_an_extension_is_left_to_whoever_asks() -> None:
    data = msgpack.packb(msgpack.ExtType(5, b"x"))
    assert unpack_untrusted(data) == msgpack.ExtType(5, b"x")
    assert unpack_untrusted(data, ext_hook=lambda code, _: code) == 5
