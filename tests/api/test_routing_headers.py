"""How a client wants its request routed, in headers."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from api.errors import HttpError
from api.routing_headers import with_routing
from federation.backend import InferenceRequest, RequestId, Routing
from ledger.records import ModelName

ASKED = InferenceRequest("chat", RequestId("r"), ModelName("tiny"))


def _routing(headers: Mapping[str, str]) -> Routing:
    return with_routing(ASKED, headers).routing


def test_without_headers_everything_is_the_swarms() -> None:
    assert with_routing(ASKED, {}) == ASKED
    assert ASKED.timeout == 600, "as the README and OpenAPI have it"


def test_nodes_are_named_with_commas_between_and_once_each() -> None:
    routing = _routing({"x-localai-only": "desk, gpu ,,desk", "x-localai-avoid": "laptop"})
    assert routing.only == ("desk", "gpu")
    assert routing.avoid == ("laptop",)


def test_words_are_read_in_any_case() -> None:
    asked = with_routing(ASKED, {"x-localai-policy": " Random", "x-localai-priority": "HIGH"})
    assert asked.routing.policy == "random"
    assert asked.priority > ASKED.priority


@pytest.mark.parametrize(("said", "seconds"), [("30", 30.0), (" 1 ", 1.0), ("86400", 86400.0)])
def test_a_client_says_for_how_long_it_wants_its_answer(said: str, seconds: float) -> None:
    assert with_routing(ASKED, {"x-localai-timeout": said}).timeout == seconds


def test_a_key_is_a_tenant_and_cannot_be_read_back() -> None:
    bearer, same, other = (
        _routing(headers).tenant
        for headers in ({"authorization": "Bearer secret"}, {"x-api-key": "secret"}, {"cookie": "token=else"})
    )
    assert bearer == same != other
    assert "secret" not in bearer


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-localai-policy", "fastest"),
        ("x-localai-priority", "9"),
        ("x-localai-resume", "yes"),
        *(("x-localai-timeout", wrong) for wrong in ("", "0", "-1", "0.5", "inf", "1e3", "86401", "\u0663")),
        ("x-localai-only", "a" * 65),
        ("x-localai-avoid", ",".join(map(str, range(65)))),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(HttpError, match=name) as caught:
        with_routing(ASKED, {name: value})
    assert (caught.value.status, caught.value.param) == (400, name)
