"""Tokens and passwords, redirects, and proxies, against servers on loopback."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from node.errors import WrongUse
from node.sources import source_client
from node.sources.answers import next_url
from node.sources.errors import SourceRefused, SourceUnavailable
from node.sources.source_client import Document, SourceClient
from node.sources.source_files import Location
from node.sources.source_settings import SourceSettings
from node.sources.web_url import WebUrl
from tests.node.sources.web import Asked, Handler, Reply, Web, always, serving

TOKEN = "hf_t0ken"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def with_two_webs(test: Callable[[Web, Web], Awaitable[None]]) -> None:
    async def main() -> None:
        with trio.fail_after(20):
            async with serving() as web, serving() as other:
                await test(web, other)

    trio.run(main)


async def read(url: WebUrl, token: str = "", size_max: int = 1000) -> Document:
    async with SourceClient(silence_max=5.0) as client:
        return await client.read(Location(url, token), size_max=size_max)


def leading_to(location: str, status: int = 302, headers: Mapping[str, str] | None = None) -> Handler:
    return always(Reply(status, b"", {"location": location, **(headers or {})}))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_token_goes_along_within_its_origin_and_nowhere_else(status: int) -> None:
    async def test(web: Web, other: Web) -> None:
        web.pages["/a"] = leading_to("/b", status)
        web.pages["/b"] = leading_to(f"{other.root}/c", status)
        other.pages["/c"] = leading_to("/d", status)
        other.pages["/d"] = always(Reply(200, b"there"))
        document = await read(web.url("/a"), TOKEN)
        assert document.body == b"there"
        assert [each.headers.get("authorization") for each in web.asked] == [f"Bearer {TOKEN}"] * 2
        assert [each.headers.get("authorization") for each in other.asked] == [None, None]

    with_two_webs(test)


def test_a_token_comes_back_to_its_origin() -> None:
    async def test(web: Web, other: Web) -> None:
        web.pages["/a"] = leading_to(f"{other.root}/b")
        other.pages["/b"] = leading_to(f"{web.root}/c")
        web.pages["/c"] = always(Reply(200, b"there"))
        await read(web.url("/a"), TOKEN)
        assert all("authorization" in each.headers for each in web.asked)
        assert not any("authorization" in each.headers for each in other.asked)

    with_two_webs(test)


def test_a_password_in_a_url_goes_along_within_its_origin_and_nowhere_else() -> None:
    async def test(web: Web, other: Web) -> None:
        web.pages["/a"] = leading_to(f"{web.root}/b")
        web.pages["/b"] = leading_to(f"{other.root}/c")
        other.pages["/c"] = always(Reply(200, b"there"))
        url = WebUrl.parse(f"{web.root}/a".replace("://", "://me:hunter2@"))
        await read(url)
        assert all(each.headers["authorization"].startswith("Basic ") for each in web.asked)
        assert "authorization" not in other.asked[0].headers

    with_two_webs(test)


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("/a", "more than 8 redirects"),
        ("ftp://x/m.gguf", "leads to what is no URL"),
        ("http://a..b/", "leads to what is no URL"),
        ("//", "leads to what is no URL|more than 8"),
        ("http://xn--a.lan/m", "leads to what is no URL"),
        ("http://999.1.1.1/m", "leads to what is no URL"),
    ],
)
def test_a_redirect_that_leads_nowhere_is_refused(location: str, words: str) -> None:
    async def test(web: Web, _other: Web) -> None:
        web.pages["/a"] = leading_to(location)
        with pytest.raises(SourceRefused, match=words):
            await read(web.url("/a"), TOKEN)

    with_two_webs(test)


@pytest.mark.parametrize("host", ["xn--a.lan", "xn--0.lan"])
def test_a_host_that_stands_for_nothing_is_refused(host: str) -> None:
    with pytest.raises(SourceRefused, match=f"{host}/m is no address that can be asked"):
        trio.run(read, WebUrl.parse(f"http://{host}/m"))


def test_nothing_leads_from_https_to_http() -> None:
    secure = WebUrl.parse("https://x.org/m.gguf?sig=s3cret")
    with pytest.raises(SourceRefused, match="from https to http") as caught:
        next_url(secure, "http://x.org/m.gguf?sig=s3cret")
    assert "s3cret" not in str(caught.value)
    assert next_url(WebUrl.parse("http://x.org/m"), "https://y.org/m").text == "https://y.org/m"
    assert next_url(secure, "n?sig=2").text == "https://x.org/n?sig=2"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of 127.0.0.1, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(datetime(2020, 1, 1, tzinfo=UTC)).not_valid_after(
        datetime(2100, 1, 1, tzinfo=UTC)
    )
    address = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    signed = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    path = tmp_path / "web.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + signed.public_bytes(Encoding.PEM)
    )
    return path


def test_who_does_not_prove_who_he_is_gets_no_token(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)

    async def test(web: Web, _other: Web) -> None:
        async with serving(tls) as secure:
            secure.pages["/a"] = always(Reply(200, b"there"))
            secure.pages["/b"] = leading_to(f"{web.root}/c")
            with pytest.raises(SourceRefused, match="does not prove that it is"):
                await read(secure.url("/a"), TOKEN)
            assert secure.asked == []
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            assert (await read(secure.url("/a"), TOKEN)).body == b"there"
            with pytest.raises(SourceRefused, match="from https to http"):
                await read(secure.url("/b"), TOKEN)
            assert web.asked == []

    with_two_webs(test)


def test_certificates_are_read_once_for_all_clients_and_anew_where_others_are_named(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_files: list[str] = []
    create = ssl.create_default_context

    def note(*, cafile: str) -> ssl.SSLContext:
        read_files.append(cafile)
        return create(cafile=cafile)

    monkeypatch.setattr(ssl, "create_default_context", note)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    for _ in range(2):
        SourceClient()
    other = certificate.with_name("other.pem")
    other.write_bytes(certificate.read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    SourceClient()
    assert read_files == [str(certificate), str(other)]


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_certificates_that_cannot_be_read_are_named_by_their_variable(
    tmp_path: Path, content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "web.pem"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(WrongUse, match="SSL_CERT_FILE"):
        SourceClient()


def test_a_small_answer_has_a_bound() -> None:
    async def test(web: Web, _other: Web) -> None:
        web.pages["/a"] = always(Reply(200, b"x" * 1001))
        with pytest.raises(SourceRefused, match="larger than 1000 bytes"):
            await read(web.url("/a"))
        assert len((await read(web.url("/a"), size_max=1001)).body) == 1001

    with_two_webs(test)


@pytest.mark.parametrize("sent", ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"])
def test_who_sends_a_byte_now_and_then_holds_nobody_up(sent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def trickle(stream: trio.abc.Stream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(sent.encode())
            await stream.receive_some()

    async def test(web: Web, _other: Web) -> None:
        # Silence alone would take five seconds.
        monkeypatch.setattr(source_client, "ANSWER_TIME_MAX", 0.1)
        monkeypatch.setattr(web, "answer", trickle)
        with pytest.raises(SourceUnavailable, match=r"/a has not come after 0\.1 seconds"):
            await read(web.url("/a"))

    with_two_webs(test)


def test_proxies_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(web: Web, proxy: Web) -> None:
        monkeypatch.setenv("HTTP_PROXY", proxy.root.replace("://", "://me:hunter2@"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        web.pages["/m"] = always(Reply(200, b"direct"))
        target = "http://models.invalid/m"
        proxy.pages[target] = always(Reply(200, b"through the proxy"))
        assert (await read(WebUrl.parse(target))).body == b"through the proxy"
        assert (await read(web.url("/m"))).body == b"direct"
        assert proxy.asked[0].headers["proxy-authorization"].startswith("Basic ")

    with_two_webs(test)


def test_who_is_out_of_reach_is_named_and_not_who_leads_there(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(web: Web, _other: Web) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        gone = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        await listeners[0].aclose()
        web.pages["/a"] = leading_to(f"http://me:hunter2@{gone}/b?sig=s3cret")
        with pytest.raises(SourceUnavailable, match=rf"nobody answers at {gone} .*network\?$") as caught:
            await read(web.url("/a"))
        assert "hunter2" not in str(caught.value)
        monkeypatch.setenv("HTTP_PROXY", f"http://{gone}")
        with pytest.raises(
            SourceUnavailable, match=r"does the proxy run that HTTPS_PROXY or HTTP_PROXY names"
        ):
            await read(web.url("/a"))

    with_two_webs(test)


@pytest.mark.parametrize("hosts", ["[::1]", "é.org"])
def test_hosts_without_a_proxy_that_cannot_be_are_named_by_their_variable(
    hosts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", hosts)
    with pytest.raises(WrongUse, match="NO_PROXY"):
        SourceClient()


def test_a_proxy_that_does_not_let_us_through_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(_web: Web, proxy: Web) -> None:
        monkeypatch.setenv("HTTPS_PROXY", proxy.root.replace("://", "://me:hunter2@"))
        proxy.pages["models.invalid:443"] = always(Reply(403))
        with pytest.raises(
            SourceUnavailable, match=r"the proxy on the way to models\.invalid .*403.*NO_PROXY"
        ) as caught:
            await read(WebUrl.parse("https://models.invalid/m"))
        assert "hunter2" not in f"{caught.value} {caught.value.__cause__}"

    with_two_webs(test)


@pytest.mark.parametrize("proxy", ["http://[", "gopher://x", "http://x:99999999", "http://", "socks5://x:1"])
def test_a_proxy_that_is_none_is_named_by_its_variable(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(WrongUse, match="HTTPS_PROXY"):
        SourceClient()


def test_settings_are_those_of_the_environment() -> None:
    usual = SourceSettings.of({})
    assert [str(each) for each in usual.hf_endpoints] == ["https://huggingface.co/"]
    assert [str(each) for each in usual.ollama_registries] == ["https://registry.ollama.ai/"]
    settings = SourceSettings.of(
        {
            "HF_ENDPOINT": "https://mirror.lan/hf/ other.lan",
            "HF_TOKEN": " hf_t0ken\n",
            "OLLAMA_REGISTRY": "box.lan:5000",
        }
    )
    assert [str(each) for each in settings.hf_endpoints] == ["https://mirror.lan/hf/", "https://other.lan/"]
    assert settings.hf_token == TOKEN
    assert [str(each) for each in settings.ollama_registries] == ["https://box.lan:5000/"]
    assert TOKEN not in repr(settings)
    with pytest.raises(WrongUse, match="HF_ENDPOINT names 9 mirrors"):
        SourceSettings.of({"HF_ENDPOINT": "x " * 9})


@pytest.mark.parametrize("name", ["HF_ENDPOINT", "OLLAMA_REGISTRY", "HF_TOKEN"])
def test_a_setting_that_cannot_be_is_named(name: str) -> None:
    with pytest.raises(WrongUse, match=name) as caught:
        SourceSettings.of({name: "ftp://me:hunter2@x y"})
    assert "hunter2" not in str(caught.value)


def test_a_head_is_read_as_far_as_it_has_to_be() -> None:
    async def test(web: Web, other: Web) -> None:
        async def headers() -> Mapping[str, str]:
            async with SourceClient() as client:
                return await client.headers(Location(web.url("/a"), TOKEN), "x-linked-etag")

        # A repository that was renamed, then the file's own answer, which leads to a store that is not asked.
        web.pages["/a"] = leading_to("/b", 307)
        web.pages["/b"] = leading_to(f"{other.root}/c", 302, {"x-linked-etag": '"1"', "x-linked-size": "5"})
        assert (await headers())["x-linked-size"] == "5"
        assert other.asked == []
        assert {each.method for each in web.asked} == {"HEAD"}
        # A mirror that hands out the file itself.
        web.pages["/b"] = always(Reply(200, b"12345", {"etag": '"2"'}))
        assert (await headers())["etag"] == '"2"'

    with_two_webs(test)


def test_a_handler_sees_what_was_asked() -> None:
    """What the tests above rely on: the server notes every question."""

    async def test(web: Web, _other: Web) -> None:
        seen: list[Asked] = []

        def note(asked: Asked) -> Reply:
            seen.append(asked)
            return Reply(200, b"x")

        web.pages["/a"] = note
        await read(web.url("/a?x=1"))
        assert seen == web.asked
        assert seen[0].target == "/a?x=1"
        assert seen[0].headers["accept-encoding"] == "identity"

    with_two_webs(test)
