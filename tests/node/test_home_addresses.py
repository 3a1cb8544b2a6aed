"""A token names where its node listens, and comes true also if that node never ran before."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

import node.home_addresses
from node.errors import HomeLocked, NodeError
from node.home import Home, NodeState
from node.home_addresses import home_addresses
from node.place import node_identity

ANY_LOOPBACK_PORT = "/ip4/127.0.0.1/tcp/0"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_a_node_that_never_ran_gets_a_port_that_is_kept_for_it(home: Home) -> None:
    addresses = home_addresses(home, [])
    assert {address.peer for address in addresses} == {node_identity(home).peer_id}
    [listen] = home.load_state().listen
    port = listen.rpartition("/")[2]
    assert {address.multiaddr.rpartition("/")[2] for address in addresses} == {port}


def test_no_address_is_the_one_that_means_everywhere(home: Home) -> None:
    assert not any("/0.0.0.0/" in str(address) for address in home_addresses(home, []))


def test_what_is_asked_for_is_taken_and_any_port_becomes_a_real_one(home: Home) -> None:
    [address] = home_addresses(home, [ANY_LOOPBACK_PORT])
    assert address.multiaddr.startswith("/ip4/127.0.0.1/tcp/")
    assert not address.multiaddr.endswith("/0")
    assert home.load_state().listen == (address.multiaddr,)
    assert home_addresses(home, [ANY_LOOPBACK_PORT]) == [address]


def test_a_port_that_is_taken_is_not_promised(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"/ip4/127.0.0.1/tcp/{other.getsockname()[1]}"
        home.create()
        home.save_state(NodeState((taken,), ()))
        assert taken not in [address.multiaddr for address in home_addresses(home, [])]
        with pytest.raises(NodeError, match=r"cannot listen on /ip4/127\.0\.0\.1/tcp"):
            home_addresses(home, [taken])


def test_the_addresses_of_peers_are_kept(home: Home) -> None:
    [address] = home_addresses(home, [ANY_LOOPBACK_PORT])
    home.save_state(NodeState((), (address,)))
    home_addresses(home, [ANY_LOOPBACK_PORT])
    assert home.load_state().peers == (address,)


def test_a_node_that_runs_is_asked(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.create()
    peer = node_identity(home).peer_id
    answer = {"api": "http://127.0.0.1:8080", "addresses": [f"/ip4/10.0.0.1/tcp/1/p2p/{peer}"]}
    monkeypatch.setattr(node.home_addresses, "ask", lambda _home, _command: answer)
    assert list(map(str, home_addresses(home, []))) == answer["addresses"]
    assert home.load_state() == NodeState()


def test_a_home_whose_node_is_just_starting_is_left_alone(home: Home) -> None:
    with home.lock(), pytest.raises(HomeLocked):
        home_addresses(home, [])
