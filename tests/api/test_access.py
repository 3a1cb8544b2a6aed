"""Who gets in: keys, and without keys everything but web pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from api.access import require_safe_binding
from api.errors import UnsafeBinding
from api.settings import ApiSettings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from tests.api.conftest import Bench

KEYS = {"api_keys": ("first-key", "second-key")}
EVERYTHING_WITH_A_KEY = [
    "/v1/models",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/tokenize",
    "/v1/detokenize",
    "/version",
    "/metrics",
    "/api/swarm",
    "/docs",
    "/openapi.json",
    "/nope",
]


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer first-key"},
        {"authorization": "bearer second-key"},
        {"x-api-key": "first-key"},
        {"xi-api-key": "second-key"},
        {"cookie": "theme=dark; token=first-key"},
    ],
)
def test_a_key_opens_the_door_in_each_of_its_places(
    new_bench: Callable[..., Bench], headers: dict[str, str]
) -> None:
    assert new_bench(KEYS).call("GET", "/v1/models", headers=headers).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer "},
        {"authorization": "Basic first-key"},
        {"authorization": "Bearer first-keyX"},
        {"x-api-key": ""},
        {"x-api-key": "first-ke"},
        {"cookie": "token=wrong"},
    ],
)
@pytest.mark.parametrize("path", EVERYTHING_WITH_A_KEY)
def test_without_a_good_key_nothing_is_told(
    new_bench: Callable[..., Bench], path: str, headers: dict[str, str]
) -> None:
    reply = new_bench(KEYS).call("GET", path, headers=headers)
    assert reply.status == 401
    assert reply.json()["error"]["code"] == "invalid_api_key"
    assert reply.headers["www-authenticate"] == "Bearer"


def test_a_key_may_be_any_text(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench({"api_keys": ("schlüssel-日本",)})
    offered = "schlüssel-日本".encode().decode("latin-1")  # As it comes off the wire.
    assert bench.call("GET", "/v1/models", headers={"x-api-key": offered}).status == 200


def test_an_empty_key_in_the_settings_opens_nothing(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench({"api_keys": ("",)})
    assert bench.call("GET", "/v1/models", headers={"x-api-key": ""}).status == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_needs_no_key(new_bench: Callable[..., Bench], path: str) -> None:
    assert new_bench(KEYS).call("GET", path).status == 200


def test_with_a_key_any_name_of_the_node_will_do(new_bench: Callable[..., Bench]) -> None:
    headers = {"host": "desktop.home", "x-api-key": "first-key", "origin": "http://elsewhere"}
    assert new_bench(KEYS).call("GET", "/v1/models", headers=headers).status == 200


def test_a_page_cannot_use_the_key_in_its_visitors_cookie(new_bench: Callable[..., Bench]) -> None:
    headers = {"cookie": "token=first-key", "origin": "http://evil.example"}
    assert new_bench(KEYS).call("GET", "/v1/models", headers=headers).status == 403


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8080",
        "127.0.0.1:1",
        "[::1]:8080",
        "[::1]",
        "LOCALHOST:99",
    ],
)
def test_without_keys_our_own_names_are_answered(bench: Bench, host: str) -> None:
    assert bench.call("GET", "/v1/models", headers={"host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.example",
        "127.0.0.1.evil.example",
        "192.168.1.5:8080",
        "localhost.evil:8080",
        "[",
        "a@localhost.b",
    ],
)
def test_without_keys_another_name_is_refused(new_bench: Callable[..., Bench], host: str | None) -> None:
    reply = new_bench().call("GET", "/v1/models", headers={"host": host})
    assert reply.status == 403
    assert reply.json()["error"]["code"] == "foreign_host"


@pytest.mark.parametrize(
    ("bind_host", "host", "status"),
    [
        ("0.0.0.0", "192.168.1.5:8080", 200),
        ("0.0.0.0", "desktop.local:8080", 200),
        ("0.0.0.0", "rebound.example:8080", 403),
        ("192.168.1.5", "192.168.1.5:8080", 200),
        ("192.168.1.5", "desktop.local:8080", 200),
        ("192.168.1.5", "192.168.1.6:8080", 403),
        # Its name may come from the network it is in (DHCP), and could be rebound by whoever runs that.
        ("127.0.0.1", "desktop.local:8080", 403),
    ],
)
def test_names_of_the_machine_are_ours_where_others_can_reach_it(
    new_bench: Callable[..., Bench], bind_host: str, host: str, status: int
) -> None:
    bench = new_bench({"bind_host": bind_host, "allowed_hosts": ("Desktop.local",)})
    assert bench.call("GET", "/v1/models", headers={"host": host}).status == status


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://["},
        {"origin": "http://localhost:3000"},
        {"origin": "http://127.0.0.1:80801"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/api/swarm", "/healthz"])
def test_without_keys_a_web_page_is_refused(bench: Bench, path: str, headers: dict[str, str]) -> None:
    reply = bench.call("GET", path, headers=headers)
    assert reply.status == 403
    assert reply.json()["error"]["code"] == "foreign_origin"
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://127.0.0.1:8080", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        {},
    ],
)
def test_our_own_page_and_programs_are_answered(bench: Bench, headers: dict[str, str]) -> None:
    assert bench.call("GET", "/v1/models", headers=headers).status == 200


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx"]
)
def test_a_body_that_is_not_called_json_is_415(
    bench: Bench, smallest_chat: dict[str, Any], content_type: str | None
) -> None:
    reply = bench.call("POST", "/v1/chat/completions", smallest_chat, headers={"content-type": content_type})
    assert reply.status == 415
    assert bench.backend.requests == []


def test_json_may_say_its_charset(bench: Bench, smallest_chat: dict[str, Any]) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert bench.call("POST", "/v1/chat/completions", smallest_chat, headers=headers).status == 200


def test_a_body_that_announces_its_size_is_refused_unread(
    new_bench: Callable[..., Bench], run_mocked: Callable[..., Any]
) -> None:
    bench = new_bench({"body_size_max": 1000})

    async def silence() -> AsyncGenerator[bytes]:
        await trio.sleep(3600)
        yield b""

    async def main() -> None:
        headers = {"content-length": "100000000", "content-type": "application/json"}
        async with bench.open("POST", "/v1/chat/completions", pieces=silence(), headers=headers) as exchange:
            reply = await exchange.reply()
        assert reply.status == 413
        assert exchange.body_read == 0

    run_mocked(main)


def test_a_body_that_grows_too_long_is_cut(
    new_bench: Callable[..., Bench], run_mocked: Callable[..., Any]
) -> None:
    bench = new_bench({"body_size_max": 1000})

    async def endless() -> AsyncGenerator[bytes]:
        while True:
            await trio.sleep(0.1)
            yield b"x" * 300

    async def main() -> None:
        headers = {"transfer-encoding": "chunked", "content-type": "application/json"}
        async with bench.open("POST", "/v1/chat/completions", pieces=endless(), headers=headers) as exchange:
            reply = await exchange.reply()
        assert reply.status == 413
        assert reply.json()["error"]["code"] == "body_too_large"
        # What is read after the refusal only gives the client time to see it.
        assert exchange.body_read < 10_000

    run_mocked(main)


def test_a_body_that_never_ends_is_408(bench: Bench, run_mocked: Callable[..., Any]) -> None:
    async def trickle() -> AsyncGenerator[bytes]:
        while True:
            await trio.sleep(1)
            yield b" "

    async def main() -> None:
        headers = {"transfer-encoding": "chunked", "content-type": "application/json"}
        async with bench.open("POST", "/v1/chat/completions", pieces=trickle(), headers=headers) as exchange:
            assert (await exchange.reply()).status == 408

    run_mocked(main)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_loopback_is_safe_without_a_key(host: str) -> None:
    require_safe_binding(host, (), allow_unauthenticated=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "desktop.local"])
def test_a_public_address_needs_a_key_or_a_word(host: str) -> None:
    with pytest.raises(UnsafeBinding, match="--allow-unauthenticated"):
        require_safe_binding(host, (), allow_unauthenticated=False)
    require_safe_binding(host, ("key",), allow_unauthenticated=False)
    require_safe_binding(host, (), allow_unauthenticated=True)


def test_settings_never_print_their_keys() -> None:
    assert "secret" not in repr(ApiSettings(version="1", api_keys=("secret",)))


def test_a_websocket_is_refused(bench: Bench, run_mocked: Callable[..., Any]) -> None:
    async def main() -> None:
        async with bench.open("GET", "/v1/models", kind="websocket") as exchange:
            message = await exchange.messages.receive()
        assert message["type"] == "websocket.close"

    run_mocked(main)
