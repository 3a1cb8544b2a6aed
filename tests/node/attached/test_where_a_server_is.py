"""URLs that `--backend` takes, and what is said of the others."""

from __future__ import annotations

import pytest

from node.attached.server_url import ServerUrl


@pytest.mark.parametrize(
    ("text", "root", "port"),
    [
        ("http://127.0.0.1:11434", "http://127.0.0.1:11434", 11434),
        ("http://localhost:8000/v1/", "http://localhost:8000", 8000),
        ("https://box.lan/llm/v1", "https://box.lan/llm", 443),
        ("http://[::1]:1234", "http://[::1]:1234", 1234),
    ],
)
def test_a_url_is_the_root_of_a_servers_paths(text: str, root: str, port: int) -> None:
    url = ServerUrl.parse(text)
    assert (str(url), url.port) == (root, port)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("127.0.0.1:11434", "write http://127.0.0.1:11434"),
        ("", "write http://127.0.0.1:11434"),
        ("ftp://x", "not a URL like"),
        ("http://", "not a URL like"),
        ("http://x:99999", "not a URL"),
        ("http://x:0", "not a URL like"),
        ("http://[x", "not a URL"),
        ("http://x/?a=b", "query"),
        ("http://x y", "printable"),
        ("http://a..b", "no name or address"),
        ("http://999.1.1.1", "no name or address"),
        ("http://" + "a" * 64, "no name or address"),
        ("http://[fe80::1%25eth0]:1", "no name or address"),
        ("http://" + "x" * 300, "at most 200"),
    ],
)
def test_what_is_no_url_is_said_to_be_none(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ServerUrl.parse(text)


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="--backend-key") as caught:
        ServerUrl.parse("http://me:hunter2@x")
    assert "hunter2" not in str(caught.value)


def test_a_node_recognises_its_own_address() -> None:
    url = ServerUrl.parse("http://localhost:8080/v1")
    assert url.leads_to("127.0.0.1", 8080)
    assert url.leads_to("0.0.0.0", 8080)
    assert not url.leads_to("127.0.0.1", 8081)
    assert not url.leads_to("192.168.1.7", 8080)
    assert ServerUrl.parse("http://192.168.1.7:8080").leads_to("192.168.1.7", 8080)
