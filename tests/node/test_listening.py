"""A node listens where it did before, then where it was asked to, and else on the next free port."""

from __future__ import annotations

from itertools import islice

from node.config import LISTEN_DEFAULT
from node.listening import PORT_DEFAULT, listen_attempts

ANY_PORT = "/ip4/0.0.0.0/tcp/0"
KEPT = "/ip4/0.0.0.0/tcp/5001"


def test_the_first_node_of_a_machine_takes_the_documented_port() -> None:
    assert next(listen_attempts((), ())) == (LISTEN_DEFAULT,)


def test_a_taken_port_means_the_next_one() -> None:
    ports = [int(attempt[0].rpartition("/")[2]) for attempt in islice(listen_attempts((), ()), 5)]
    assert ports == list(range(PORT_DEFAULT, PORT_DEFAULT + 5))


def test_many_nodes_later_any_port_will_do() -> None:
    attempts = list(listen_attempts((), ()))
    assert attempts[-1] == (ANY_PORT,)
    assert len(attempts) < 100


def test_a_port_that_stands_in_tokens_is_tried_first() -> None:
    attempts = listen_attempts((), (KEPT, "/ip6/::/tcp/5002"))
    assert next(attempts) == (KEPT, "/ip6/::/tcp/5002")
    assert next(attempts) == (LISTEN_DEFAULT,)


def test_what_was_asked_for_is_tried_and_nothing_else() -> None:
    asked = ("/ip4/192.168.1.7/tcp/6000", "/ip6/::/tcp/6000")
    assert list(listen_attempts(asked, (KEPT,))) == [asked]


def test_who_asks_for_any_port_gets_the_last_one_again_if_it_is_free() -> None:
    assert list(listen_attempts((ANY_PORT,), (KEPT,))) == [(KEPT,), (ANY_PORT,)]


def test_a_port_kept_for_another_address_is_not_taken_for_this_one() -> None:
    assert list(listen_attempts(("/ip4/127.0.0.1/tcp/0",), (KEPT,))) == [("/ip4/127.0.0.1/tcp/0",)]
