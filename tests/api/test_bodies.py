"""Bodies that are none: each has the status it deserves, and says in OpenAI's object what is wrong."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.api.conftest import Bench

CHAT = "/v1/chat/completions"
SMALLEST = b'{"model": "stub", "messages": [{"role": "user", "content": "Hi"}]}'


def with_more(more: bytes) -> bytes:
    return SMALLEST[:-1] + b", " + more + b"}"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "must be a JSON object"),
        (b"[1]", "must be a JSON object"),
        (SMALLEST[:-1], "not JSON"),
        (SMALLEST + b"x", "not JSON: Extra data"),
        (SMALLEST.replace(b"Hi", b"\n"), "not JSON: Invalid control character"),
        (SMALLEST.replace(b"Hi", b"\\x"), "not JSON: Invalid \\escape"),
        (SMALLEST.replace(b"Hi", b"\xff"), "not UTF-8: invalid start byte at byte 60"),
        (gzip.compress(SMALLEST, mtime=0), "not UTF-8"),
        (with_more(b'"x": ' + b"[" * 100_000 + b"]" * 100_000), "nested too deep"),
        (with_more(b'"x": ' + b"1" * 5000), "more digits"),
        (with_more(b'"\\ud800": 1'), "a name that is not text"),
    ],
)
def test_what_cannot_be_read_is_said(bench: Bench, body: bytes, says: str) -> None:
    reply = bench.call("POST", CHAT, body=body)
    assert reply.status == 400
    assert says in reply.json()["error"]["message"]
    assert bench.backend.requests == []


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": None},
        {"content-type": "text/plain"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/jsonp"},
        # What a few kilobytes unpack to would have no bound.
        {"content-encoding": "gzip"},
        {"content-encoding": "br"},
        {"content-encoding": "gzip, identity"},
    ],
)
def test_what_is_not_plain_json_is_not_even_read(bench: Bench, headers: dict[str, str | None]) -> None:
    reply = bench.call("POST", CHAT, body=SMALLEST, headers=headers)
    assert (reply.status, reply.json()["error"]["code"]) == (415, "unsupported_media_type")
    assert bench.backend.requests == []


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf" + SMALLEST,
        SMALLEST.decode().encode("utf-16"),
        # Numbers that are none, and half a character, are no fault where nobody looks.
        with_more(b'"x": NaN, "y": Infinity, "z": "\\ud800"'),
        with_more(b'"x": ' + b"[" * 500 + b"]" * 500),
    ],
)
def test_what_can_be_read_is_taken(bench: Bench, body: bytes) -> None:
    assert bench.call("POST", CHAT, body=body, headers={"content-encoding": "identity"}).status == 200


def test_of_a_name_that_is_there_twice_the_last_counts_as_in_every_parser(bench: Bench) -> None:
    assert bench.call("POST", CHAT, body=with_more(b'"seed": 1, "seed": 2')).status == 200
    assert bench.backend.requests[0].sampling.seed == 2
    reply = bench.call("POST", CHAT, body=with_more(b'"seed": 1, "seed": "x"'))
    assert (reply.status, reply.json()["error"]["param"]) == (400, "seed")


@pytest.mark.parametrize(
    "text",
    ["\0", "a\0b", "\u202eabc", "e\u0301" * 100, "👩‍👩‍👧", "\ufdd0\uffff", "x" * 1_000_000],
    ids=["nul", "nul-inside", "right-to-left", "combining", "joined", "noncharacters", "one-long-word"],
)
def test_any_text_arrives_as_it_was(bench: Bench, text: str) -> None:
    assert bench.chat(messages=[{"role": "user", "content": text}]).status == 200
    assert bench.backend.requests[0].messages == ({"role": "user", "content": text},)
    body = {"model": "stub", "messages": [{"role": "user", "content": text}]}
    assert bench.call("POST", CHAT, body=json.dumps(body, ensure_ascii=False).encode()).status == 200
    assert bench.backend.requests[1].messages == bench.backend.requests[0].messages


def test_a_pair_of_surrogates_is_one_character_and_half_of_it_none(bench: Bench) -> None:
    assert bench.call("POST", CHAT, body=SMALLEST.replace(b"Hi", b"\\ud83d\\ude42")).status == 200
    assert bench.backend.requests[0].messages[0]["content"] == "🙂"
    reply = bench.call("POST", CHAT, body=SMALLEST.replace(b"Hi", b"\\ud83d"))
    assert (reply.status, reply.json()["error"]["param"]) == (400, "messages[0].content")


async def _announced_and_cut() -> AsyncGenerator[bytes]:
    yield SMALLEST[:20]


def test_a_body_that_ends_too_early_is_no_request(bench: Bench) -> None:
    reply = bench.call(
        "POST", CHAT, pieces=_announced_and_cut(), headers={"content-type": "application/json"}
    )
    assert reply.status == 400
    assert bench.backend.requests == []
