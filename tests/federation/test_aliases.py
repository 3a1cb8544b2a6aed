"""Other names for models, with wishes of the swarm's admins."""

from __future__ import annotations

from typing import Any

from federation.aliases import resolve
from federation.backend import InferenceRequest, RequestId, Routing
from ledger.records import AliasRecord, ModelName

TINY = ModelName("tiny")


def asked(model: str, routing: Routing | None = None) -> InferenceRequest:
    return InferenceRequest("chat", RequestId("r"), ModelName(model), routing=routing or Routing())


def alias(name: str, model: str = "tiny", **wishes: Any) -> dict[ModelName, AliasRecord]:
    return {ModelName(name): AliasRecord(ModelName(name), ModelName(model), wishes)}


def test_an_alias_means_its_model_and_adds_its_wishes() -> None:
    aliases = alias(
        "fast", policy="least_used", only=["gpu"], prefer=["desktop"], avoid=["laptop", 7], later=1
    )
    meant = resolve(asked("fast", Routing(only=("home",), prefer=("cellar",))), aliases)
    assert meant.model == TINY
    assert meant.routing == Routing(
        policy="least_used",
        only=("home",),
        only_by_alias=("gpu",),
        prefer=("cellar", "desktop"),
        avoid=("laptop",),
    )


def test_a_clients_own_policy_goes_before_the_aliass_and_what_is_no_wish_is_none() -> None:
    aliases = alias("fast", policy="random", only="no list", prefer=7)
    assert resolve(asked("fast", Routing(policy="eta")), aliases).routing == Routing(policy="eta")
    assert resolve(asked("fast"), alias("fast", policy=["eta"])).routing == Routing()


def test_an_alias_names_no_other_alias_and_keeps_a_file() -> None:
    ours, theirs = f"tiny@sha256:{'a' * 64}", "b" * 64
    aliases = alias("first", "second") | alias("second", ours)
    assert resolve(asked("first"), aliases).model == "second"
    assert resolve(asked("second"), aliases).model == ours
    assert resolve(asked(f"second@sha256:{theirs}"), aliases).model == f"tiny@sha256:{theirs}"


def test_any_other_name_stays_what_it_is() -> None:
    request = asked("tiny")
    assert resolve(request, alias("fast")) is request
