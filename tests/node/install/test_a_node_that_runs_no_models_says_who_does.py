"""A front shows what the galleries offer, and says whom to ask for the rest."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from api.errors import HttpError
from api.model_manager import ModelOrder
from ledger.records import NodeRole
from ledger.view import NodeState, NodeView
from node.install.no_models import NoModels, why_no_models
from p2p.peer import PeerId
from tests.node.install.town import Town, gguf, in_town


def node(name: str, role: NodeRole = "worker", state: NodeState = "online") -> NodeView:
    return NodeView(PeerId(f"id-{name}"), name, state, role, "1")


SWARM = [node("front", "front"), node("cellar"), node("attic"), node("den", state="offline")]


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        (SWARM, "ask one that does: attic, cellar"),
        (SWARM[:1], "ask one that does; none is here now"),
        ([node(name) for name in "edcba"], "ask one that does: a, b, c"),
    ],
)
def test_who_can_be_asked_is_named(nodes: Iterable[NodeView], told: str) -> None:
    assert why_no_models(nodes) == f"this node runs no models of its own; {told}"


def test_it_offers_what_the_galleries_do_as_every_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(town: Town) -> None:
        town.web.list_in_gallery("tiny", {"tiny.gguf": gguf(2)}, license="mit")
        async with town.home("ben") as ben:
            front = NoModels(lambda: SWARM, ben._galleries)
            [offered] = (await front.available_models()).models
            assert (offered["name"], offered["license"], offered["installed"]) == ("tiny", "mit", False)
            assert [offered] == list((await ben.manager.available_models()).models)
            ben.gallery = "nothing-there.yaml"
            (tmp_path / "ben" / "galleries").rename(tmp_path / "forgotten")
            with pytest.raises(HttpError) as caught:
                await front.available_models()
            assert (caught.value.status, caught.value.code) == (502, "no_gallery")
            monkeypatch.setenv("HTTPS_PROXY", "gopher://x")
            with pytest.raises(HttpError, match="HTTPS_PROXY"):
                await front.available_models()

    in_town(tmp_path, test)


def test_what_it_cannot_do_it_says_with_who_can(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.home("ben") as ben:
            front = NoModels(lambda: SWARM, ben._galleries)
            with pytest.raises(HttpError, match="attic, cellar") as caught:
                front.order_model(ModelOrder("tiny"))
            assert (caught.value.status, caught.value.code) == (409, "no_worker")
            with pytest.raises(HttpError, match="attic, cellar") as caught:
                await front.delete_model("tiny")
            assert (caught.value.status, caught.value.code) == (404, "model_not_found")

    in_town(tmp_path, test)
