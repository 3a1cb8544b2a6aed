"""A process that a node starts inherits its environment, and no setting or secret of the node."""

from __future__ import annotations

import pytest

from node.child_environment import child_environment


def test_a_child_learns_no_secret_of_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALAI_NODE_TOKEN", "lnode1secret")
    monkeypatch.setenv("LOCALAI_NODE_API_KEY", "sesame")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    inherited = child_environment()
    assert inherited["CUDA_VISIBLE_DEVICES"] == "0"
    assert not {"lnode1secret", "sesame"} & set(inherited.values())
