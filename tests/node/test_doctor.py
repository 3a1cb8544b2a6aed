"""The doctor says what is wrong with a machine, and for each of it what to do."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from node import doctor
from node.attached.server_url import ServerUrl
from node.doctor import Finding
from node.engine.build import Build, describe_build
from node.errors import CommandRefused, NoAnswer, NodeError
from node.examination import examine, why_not_listen
from node.flag_types import HostPort
from node.home import Home, NodeState
from node.place import found, node_identity
from p2p.credential import EXPIRY_LEEWAY, NEVER
from p2p.identity import Identity
from p2p.peer import PeerAddress

NOW = 1_800_000_000.0
GIB = 2**30
CPU_ONLY = Build(("CPU", "RPC"), (), 4)
WITH_CUDA = Build(("CUDA", "CPU", "RPC"), ("RTX 4070",), 4)
ME = {"id": "me", "name": "desktop", "rtt_ms": 0.0}
MACBOOK = {"id": "a", "name": "macbook", "rtt_ms": 2.5}
PHONE = {"id": "b", "name": "phone", "rtt_ms": None}


def says(finding: Finding, level: str, *words: str) -> bool:
    return finding.level == level and all(word in str(finding) for word in words)


def test_a_build_that_dies_is_a_problem() -> None:
    assert says(doctor.judge_build("was ended by SIGILL"), "problem", "SIGILL", "reinstall", "GGML_RPC=on")


def test_a_build_without_rpc_is_worth_a_warning() -> None:
    assert says(doctor.judge_build(Build(("CPU",), (), 4)), "warning", "without RPC")
    assert says(doctor.judge_build(CPU_ONLY), "ok", "CPU, RPC")


@pytest.mark.parametrize(
    ("names", "flag"),
    [
        (["RTX 4070"], "GGML_CUDA"),
        (["AMD (ROCm)"], "GGML_HIP"),
        (["Apple M3 (Metal)"], "GGML_METAL"),
        (["AMD (Vulkan)"], "GGML_VULKAN"),
    ],
)
def test_a_gpu_that_the_build_cannot_use_comes_with_the_flag_it_needs(names: list[str], flag: str) -> None:
    assert says(doctor.judge_gpu(names, CPU_ONLY, driver_answers=True), "warning", names[0], f"{flag}=on")


def test_a_gpu_that_is_used_is_named() -> None:
    assert says(doctor.judge_gpu(["RTX 4070"], WITH_CUDA, driver_answers=True), "ok", "RTX 4070")


def test_no_gpu_is_no_problem_but_a_mute_driver_is_worth_a_warning() -> None:
    assert says(doctor.judge_gpu([], CPU_ONLY, driver_answers=True), "ok", "CPU")
    assert says(doctor.judge_gpu([], CPU_ONLY, driver_answers=False), "warning", "nvidia-smi")
    assert says(doctor.judge_gpu(["Intel (Vulkan)"], CPU_ONLY, driver_answers=True), "ok", "seldom faster")


def test_little_memory_and_little_disk_are_told() -> None:
    assert says(doctor.judge_memory(16 * GIB, GIB // 2), "warning", "0.5 of 16.0 GiB")
    assert says(doctor.judge_memory(16 * GIB, 8 * GIB), "ok")
    assert says(doctor.judge_disk("/home", GIB // 2), "problem", "/home", "make room")
    assert says(doctor.judge_disk("/home", 2 * GIB), "warning", "make room")
    assert says(doctor.judge_disk("/home", 90 * GIB), "ok")


def test_a_port_is_free_or_ours_or_a_problem() -> None:
    place = "127.0.0.1:8080"
    assert says(doctor.judge_api_port(place, is_ours=True, failure=""), "ok", "our node")
    assert says(doctor.judge_api_port(place, is_ours=False, failure=""), "ok", "free")
    assert says(doctor.judge_api_port(place, is_ours=False, failure="in use"), "problem", place, "--api")


def test_a_taken_listen_port_is_a_problem_only_if_somebody_chose_it() -> None:
    def judge(*, is_asked: bool, is_ours: bool = False, failure: str = "") -> Finding:
        return doctor.judge_listen_port(
            "/ip4/0.0.0.0/tcp/4747", is_ours=is_ours, is_asked=is_asked, failure=failure
        )

    assert says(judge(is_asked=True, failure="in use"), "problem", "--listen")
    assert says(judge(is_asked=False, failure="in use"), "warning", "next free one", "token show")
    assert says(judge(is_asked=False), "ok", "free")
    assert says(judge(is_asked=True, is_ours=True), "ok", "our node")


@pytest.mark.parametrize("unix_time", [0.0, 946_684_800.0, 1e11, 1e300, -1e300])
def test_an_impossible_clock_is_a_problem_for_invites(unix_time: float) -> None:
    assert says(doctor.judge_clock(unix_time, 0.0), "problem", "invite")


def test_a_clock_behind_the_homes_own_files_is_wrong() -> None:
    assert says(doctor.judge_clock(NOW, NOW + EXPIRY_LEEWAY + 1), "problem", "is before")
    assert says(doctor.judge_clock(NOW, NOW + EXPIRY_LEEWAY), "ok", "5 minutes leeway")


def test_a_place_that_ends_is_told_in_time() -> None:
    assert says(doctor.judge_place("home", NEVER, NOW), "ok", "for good")
    assert says(doctor.judge_place("home", int(NOW) + 90_000, NOW), "ok", "25 h")
    assert says(doctor.judge_place("home", int(NOW) + 7200, NOW), "warning", "2 h", "newer token")
    assert says(doctor.judge_place("home", int(NOW), NOW), "problem", "over", "newer token")


def test_a_key_that_others_can_read_is_a_problem() -> None:
    def judge(mode: int, problem: str = "") -> Finding:
        return doctor.judge_private_file("node.key", "/h/node.key", mode=mode, problem=problem)

    assert says(judge(0o600), "ok")
    assert says(judge(0), "ok")
    for mode in (0o644, 0o640, 0o604, 0o620):
        assert says(judge(mode), "problem", f"{mode:o}", "chmod 600 /h/node.key")
    assert says(judge(0o600, "/h/node.key was cut"), "problem", "was cut")


def test_reachability_tells_addresses_and_connections() -> None:
    assert says(doctor.judge_reachability(["/ip4/192.168.1.7/tcp/4747"]), "ok", "192.168.1.7")
    assert says(doctor.judge_reachability([]), "warning", "only nodes on this machine", "--listen")
    assert says(doctor.judge_connections([ME], "me"), "ok", "only node")
    assert says(doctor.judge_connections([ME, MACBOOK, PHONE], "me"), "ok", "macbook", "2 other")
    assert says(doctor.judge_connections([ME, PHONE], "me"), "warning", "none of the 1", "firewall")


def test_what_a_running_node_warns_of_itself_is_passed_on() -> None:
    full = {**ME, "warnings": ["models take 3.00 GiB"]}
    [finding] = doctor.judge_models([full, {**PHONE, "warnings": ["another's"]}], "me")
    assert says(finding, "warning", "models take 3.00 GiB", "unpin")
    assert doctor.judge_models([{**ME, "warnings": []}], "me") == []


def test_known_addresses_are_a_worry_only_if_all_are_silent() -> None:
    assert says(doctor.judge_known_addresses([], []), "ok", "no addresses")
    assert says(doctor.judge_known_addresses(["/ip4/10.0.0.1/tcp/1"], ["x"]), "ok", "1 of 2")
    assert says(doctor.judge_known_addresses([], ["/ip4/10.0.0.1/tcp/1"]), "warning", "10.0.0.1", "firewall")


def test_everything_that_is_not_well_says_what_to_do() -> None:
    bad = [
        doctor.judge_build("gone"),
        doctor.judge_gpu(["RTX"], CPU_ONLY, driver_answers=True),
        doctor.judge_memory(GIB, 0),
        doctor.judge_disk("/", 0),
        doctor.judge_api_port("x", is_ours=False, failure="taken"),
        doctor.judge_listen_port("x", is_ours=False, is_asked=False, failure="taken"),
        doctor.judge_clock(0.0, 0.0),
        doctor.judge_place("home", 1, NOW),
        doctor.judge_private_file("node.key", "x", mode=0o666, problem=""),
        doctor.judge_reachability([]),
        doctor.judge_connections([ME, PHONE], "me"),
        *doctor.judge_models([{**ME, "warnings": ["x"]}], "me"),
        doctor.judge_known_addresses([], ["x"]),
    ]
    assert [finding for finding in bad if finding.level == "ok" or not finding.advice] == []
    assert [finding for finding in bad if "\n" in str(finding)] == []


def test_the_defaults_come_with_their_reasons() -> None:
    lines = [str(finding) for finding in doctor.defaults_chosen(CPU_ONLY, 6 * GIB)]
    assert any("threads" in line and "4 per model" in line and "hyperthreads" in line for line in lines)
    assert any("memory" in line and "6.0 GiB for all models (--memory)" in line for line in lines)
    assert any("GPU layers" in line and "none" in line for line in lines)
    assert any(
        "GPU layers" in str(line) and "fit" in str(line) for line in doctor.defaults_chosen(WITH_CUDA, 1)
    )
    assert doctor.defaults_chosen("gone", GIB)


def test_a_taken_port_is_told_from_a_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert why_not_listen("127.0.0.1", port)
        assert "while attempting" not in why_not_listen("127.0.0.1", port)
    assert why_not_listen("127.0.0.1", 0) == ""
    assert why_not_listen("no such host.invalid", 0)


def test_how_a_build_died_is_told() -> None:
    die = "import os, sys; sys.stderr.write('AMX\\n'); sys.stderr.flush(); os.abort()"
    description = describe_build([sys.executable, "-c", die])
    assert isinstance(description, str)
    assert "AMX" in description
    assert describe_build([sys.executable, "-c", "raise SystemExit(3)"]) == (
        "its process exited with 0x3 (without a word)"
    )
    assert "No such file" in str(describe_build(["/nowhere/python"])) or os.name == "nt"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a process that loads llama.cpp."""
    monkeypatch.setattr("node.examination.describe_build", lambda: CPU_ONLY)
    monkeypatch.setattr("node.examination.gpu_names", list)
    monkeypatch.setattr("node.examination.nvidia_names", list)


def findings_of(home: Home) -> dict[str, Finding]:
    return {finding.about: finding for finding in examine(home, HostPort("127.0.0.1", 0), ())}


@pytest.mark.usefixtures("quick")
def test_a_machine_without_a_home_is_looked_at_and_none_is_made(tmp_path: Path) -> None:
    home = Home(tmp_path / "not" / "yet")
    findings = findings_of(home)
    assert {"memory", "disk", "clock", "API port", "listen port", "reachability"} <= set(findings)
    assert not home.path.parent.exists()


@pytest.mark.usefixtures("quick")
def test_a_server_that_shall_be_attached_is_looked_at(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = ServerUrl.parse(f"http://127.0.0.1:{port}")
    [finding] = [
        finding
        for finding in examine(home, HostPort("127.0.0.1", 0), (), [url])
        if finding.about == "backend"
    ]
    assert finding.level == "warning"
    assert f"no server answers at {url}" in finding.text
    assert says(doctor.judge_backend("http://x", "Ollama", 2, ""), "ok", "Ollama at http://x", "2 models")
    assert says(doctor.judge_backend("http://x", "Ollama", 0, ""), "warning", "no models")


def test_the_keys_of_a_home_are_looked_at(home: Home) -> None:
    found(home)
    names = {"node.key", "founder.key", "swarm.msgpack"}
    assert {name: findings_of(home)[name].level for name in names} == dict.fromkeys(names, "ok")
    home.founder_key.write_text("not a key")
    home.swarm_file.write_bytes(b"")
    findings = findings_of(home)
    assert {name for name in names if findings[name].level == "problem"} == {"founder.key", "swarm.msgpack"}


@pytest.mark.skipif(sys.platform == "win32", reason="there are no mode bits")
@pytest.mark.usefixtures("quick")
def test_modes_are_read_from_the_disk(home: Home) -> None:
    found(home)
    home.node_key.chmod(0o644)
    assert says(findings_of(home)["node.key"], "problem", "chmod 600")


@pytest.mark.usefixtures("quick")
def test_damaged_state_does_not_keep_the_doctor_from_the_rest(home: Home) -> None:
    home.state_file.write_text("{")
    findings = findings_of(home)
    assert says(findings["state"], "problem", "delete it")
    assert "known peers" in findings


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("error", [NoAnswer("it is silent"), CommandRefused("its log says how")])
def test_a_sick_node_does_not_keep_the_doctor_from_the_rest(
    home: Home, monkeypatch: pytest.MonkeyPatch, error: NodeError
) -> None:
    def ask(_home: Home, _command: str) -> None:
        raise error

    monkeypatch.setattr("node.examination.ask", ask)
    findings = findings_of(home)
    assert says(findings["node"], "problem", str(error))
    assert "known peers" in findings


@pytest.mark.usefixtures("quick")
def test_addresses_where_peers_were_are_tried(home: Home) -> None:
    peer = node_identity(home).peer_id
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        address = PeerAddress(peer, f"/ip4/127.0.0.1/tcp/{somebody.getsockname()[1]}")
        home.save_state(NodeState((), (address,)))
        assert says(findings_of(home)["known peers"], "ok", "1 of 1")
    assert says(findings_of(home)["known peers"], "warning", address.multiaddr)


@pytest.mark.usefixtures("quick")
def test_a_kept_port_that_is_taken_is_told(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        multiaddr = f"/ip4/127.0.0.1/tcp/{other.getsockname()[1]}"
        home.save_state(NodeState((multiaddr,), ()))
        assert says(findings_of(home)["listen port"], "warning", multiaddr)


@pytest.mark.usefixtures("quick")
def test_a_node_that_listens_on_loopback_only_is_told_that_nobody_finds_it(home: Home) -> None:
    home.save_state(NodeState(("/ip4/127.0.0.1/tcp/0",), ()))
    assert says(findings_of(home)["reachability"], "warning", "only nodes on this machine")


@pytest.mark.usefixtures("quick")
def test_no_finding_tells_a_secret(home: Home) -> None:
    place = found(home)
    text = "\n".join(map(str, findings_of(home).values()))
    seeds = [Identity.load(path).seed for path in (home.node_key, home.founder_key)]
    assert not any(secret.hex() in text for secret in (*seeds, place.secret))
