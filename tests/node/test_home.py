"""A home keeps what a node must remember, for one node at a time and for its owner's eyes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from node.errors import HomeDamaged, HomeLocked, NodeError
from node.home import Home, NodeState, write_private
from p2p.identity import Identity
from p2p.peer import PeerAddress

PEER = Identity(bytes(32)).peer_id
ADDRESS = PeerAddress(PEER, "/ip4/192.168.1.7/tcp/4747")
STATE = NodeState(("/ip4/0.0.0.0/tcp/4747",), (ADDRESS,))

on_posix = pytest.mark.skipif(sys.platform == "win32", reason="there are no mode bits")
unless_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root"
)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_looking_at_a_home_creates_nothing(home: Home) -> None:
    assert home.load_state() == NodeState()
    assert not home.path.exists()


@on_posix
def test_only_its_owner_may_look_into_a_home(home: Home) -> None:
    with home.lock():
        assert {mode_of(folder) for folder in (home.path, home.models, home.run)} == {0o700}


def test_a_second_node_is_told_whose_home_it_is(home: Home) -> None:
    with (
        home.lock(),
        pytest.raises(HomeLocked, match=r"already runs in .*home; stop it, or give this one its own --home"),
        home.lock(),
    ):
        pass


def test_a_home_is_free_again_when_its_node_ended(home: Home) -> None:
    with home.lock():
        pass
    with home.lock():
        pass


def test_a_node_of_another_process_that_was_killed_holds_no_lock(home: Home) -> None:
    hold = "import sys; from node.home import Home; from pathlib import Path\n"
    hold += "with Home(Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(home.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(HomeLocked), home.lock():
            pass
        holder.kill()
    with home.lock():
        pass


@on_posix
@unless_root
def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(NodeError, match=r"cannot use .* as a home: Permission denied; choose another"):
        Home(tmp_path / "home").create()


def test_a_file_cannot_be_a_home(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NodeError, match=r"cannot use .*file as a home"):
        Home(tmp_path / "file").create()


def test_state_comes_back_as_it_was_saved(home: Home) -> None:
    home.create()
    home.save_state(STATE)
    assert home.load_state() == STATE


def test_more_addresses_than_a_node_needs_are_not_kept(home: Home) -> None:
    home.create()
    longest = "/dns4/" + "x" * 63 + "." + "y" * 45 + "/tcp/65535"
    home.save_state(NodeState((), (PeerAddress(PEER, longest),) * 10_000))
    assert 0 < len(home.load_state().peers) < 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"listen": []}',
        '{"listen": "/ip4/0.0.0.0/tcp/4747", "peers": []}',
        '{"listen": ["everywhere"], "peers": []}',
        '{"listen": [], "peers": [7]}',
        "[" * 100_000,
    ],
)
def test_damaged_state_is_named_and_may_be_deleted(home: Home, text: str) -> None:
    home.create()
    home.state_file.write_text(text)
    with pytest.raises(HomeDamaged, match=r"state\.json cannot be read .*: delete it"):
        home.load_state()


@on_posix
def test_a_private_file_is_its_owners_alone_whatever_lay_there_before(home: Home) -> None:
    home.create()
    home.swarm_file.write_text("old")
    home.swarm_file.chmod(0o644)
    write_private(home.swarm_file, b"new")
    assert (home.swarm_file.read_bytes(), mode_of(home.swarm_file)) == (b"new", 0o600)


def test_what_cannot_be_written_is_one_line_and_leaves_the_old_file(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    home.create()
    home.save_state(STATE)
    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(NodeError, match=r"cannot write .*state\.json: No space left on device"):
        home.save_state(NodeState())
    assert home.load_state() == STATE
    assert [path.name for path in home.path.iterdir() if path.is_file()] == ["state.json"]


def test_a_home_that_forgets_its_swarm_keeps_its_key_and_models(home: Home) -> None:
    home.create()
    kept = [home.node_key, home.founder_key, home.config_file, home.models / "tiny.gguf"]
    gone = [home.swarm_file, home.ledger_file, home.path / "ledger.sqlite-wal"]
    for path in (*kept, *gone):
        path.write_text("x")
    home.forget_swarm()
    home.forget_swarm()
    assert [path for path in (*kept, *gone) if path.exists()] == kept


def test_a_home_that_forgets_its_swarm_keeps_its_port_and_no_peers(home: Home) -> None:
    home.create()
    home.save_state(STATE)
    home.forget_swarm()
    assert home.load_state() == NodeState(listen=STATE.listen)
