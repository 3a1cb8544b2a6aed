"""Who may import whom. Each rule says why it is there."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = ("p2p", "ledger", "federation", "api", "node")

ONLY_IN = {
    "libp2p": (
        {"p2p/libp2p_stream.py"},
        "one border maps its exceptions and can be replaced; importing it takes 1.2 s",
    ),
    "llama_cpp": (
        {
            f"node/engine/llama/{name}.py"
            for name in ("batch", "embedder", "library", "text_model", "vocabulary")
        },
        "it may crash the process it is loaded in: only an engine may load it",
    ),
    "llguidance": (
        {"node/engine/constraint.py", "node/chat/grammar_library.py"},
        "one module compiles grammars, and one tries them where it can be stopped",
    ),
    "httpx": (
        {
            "node/attached/exchange.py",
            "node/attached/server_client.py",
            "node/commands/chat.py",
            "node/demo.py",
            "node/http_client.py",
            "node/sources/download.py",
            "node/sources/source_client.py",
        },
        "each client bounds what it reads, and decides on proxies, redirects and secrets, for its servers",
    ),
    "zeroconf": ({"p2p/mdns.py"}, "it runs threads of its own"),
    "sqlite3": (
        {"ledger/store.py", "ledger/store_schema.py", "ledger/store_log.py"},
        "one owner of the disk",
    ),
}
ONLY_UNDER = {
    "fastapi": ("api", "HTTP is api/'s: every other folder can be used without it"),
    "starlette": ("api", "HTTP is api/'s: every other folder can be used without it"),
    "hypercorn": ("api", "HTTP is api/'s: every other folder can be used without it"),
    "click": ("node", "flags and terminals are the program's"),
}
CORE_MUST_NOT_IMPORT = {
    "trio": "a core does no I/O",
    "time": "a core is told the time",
    "datetime": "a core is told the time",
    "logging": "a core returns what is worth saying",
    "socket": "a core does no I/O",
    "secrets": "a core is given its randomness",
}
CORES = (
    "p2p/blobs/asked_seeder.py",
    "p2p/blobs/blob_messages.py",
    "p2p/blobs/fetch.py",
    "p2p/blobs/fetch_events.py",
    "p2p/blobs/file_name.py",
    "p2p/blobs/have_map.py",
    "p2p/blobs/manifest.py",
    "p2p/blobs/reputation.py",
    "p2p/blobs/upload.py",
    "p2p/blobs/wanted_chunks.py",
    "p2p/fields.py",
    "p2p/framing.py",
    "p2p/hello.py",
    "p2p/address_book.py",
    "p2p/address_book_config.py",
    "p2p/allowance.py",
    "p2p/due_queue.py",
    "p2p/finder.py",
    "p2p/hearsay.py",
    "p2p/known_peer.py",
    "p2p/admission.py",
    "p2p/admission_events.py",
    "p2p/boot_ids.py",
    "p2p/guest.py",
    "p2p/neighbours.py",
    "p2p/connection_table.py",
    "p2p/peer.py",
    "p2p/secret.py",
    "p2p/tcp_address.py",
    "p2p/yamux_frames.py",
    "p2p/token.py",
    "p2p/unpack.py",
    "p2p/credential.py",
    "ledger/version.py",
    "ledger/floor.py",
    "ledger/proof.py",
    "ledger/replica.py",
    "ledger/spread.py",
    "ledger/exchange_turn.py",
    "ledger/backlog.py",
    "ledger/entry.py",
    "ledger/record_fields.py",
    "ledger/records.py",
    "ledger/placement.py",
    "ledger/state.py",
    "ledger/sync.py",
    "ledger/failure_detector.py",
    "ledger/liveness_events.py",
    "ledger/sync_messages.py",
    "ledger/probe.py",
    "ledger/beliefs.py",
    "ledger/rumour.py",
    "ledger/relay.py",
    "ledger/local_health.py",
    "ledger/probing.py",
    "ledger/claims_exchange.py",
    "ledger/claims_digest.py",
    "ledger/deadlines.py",
    "ledger/allowance.py",
    "federation/infer.py",
    "federation/affinity.py",
    "federation/aliases.py",
    "federation/circuit.py",
    "federation/cost.py",
    "federation/directory.py",
    "federation/explain.py",
    "federation/prefix.py",
    "federation/priors.py",
    "federation/recent.py",
    "federation/reports.py",
    "federation/router.py",
    "federation/speeds.py",
    "federation/work.py",
    "federation/balancer.py",
    "federation/lease.py",
    "federation/waiting_room.py",
    "federation/waiting_pace.py",
    "federation/slot_gate.py",
    "federation/load_feed.py",
    "federation/busy_peers.py",
    "federation/prospects.py",
    "federation/first_words.py",
    "federation/model_reference.py",
    "federation/pace.py",
    "federation/attempts.py",
    "federation/continuation.py",
    "federation/counts.py",
    "federation/trace.py",
    "federation/infer_codec.py",
    "federation/request_codec.py",
    "federation/request_limits.py",
    "federation/chunk_codec.py",
    "federation/chunk_sizing.py",
    "node/jobs/board.py",
    "node/jobs/job.py",
    "node/jobs/pace.py",
    "node/placement/absences.py",
    "node/placement/hosts.py",
    "node/placement/part.py",
    "node/placement/retention.py",
    "node/engine/choice.py",
    "node/engine/pacing.py",
    "node/engine/embed_loop.py",
    "node/engine/engine_prompt.py",
    "node/engine/grammar_limits.py",
    "node/engine/load_problem.py",
    "node/engine/lookup.py",
    "node/engine/sampler.py",
    "node/engine/sampling.py",
    "node/engine/scheduler.py",
    "node/engine/slots.py",
    "node/engine/step_loop.py",
    "node/engine/supervisor.py",
    "node/engine/text_stream.py",
    "node/engine/wire.py",
    "node/engine/wire_codec.py",
    "node/chat/answer_parser.py",
    "node/chat/call_ids.py",
    "node/chat/call_parser.py",
    "node/chat/described_tools.py",
    "node/chat/formats/call_pattern.py",
    "node/chat/formats/choice.py",
    "node/chat/formats/gemma.py",
    "node/chat/formats/generic.py",
    "node/chat/formats/hermes.py",
    "node/chat/formats/llama.py",
    "node/chat/formats/mistral.py",
    "node/chat/formats/tool_format.py",
    "node/chat/finite_schema.py",
    "node/chat/grammar.py",
    "node/chat/json_scanner.py",
    "node/chat/json_values.py",
    "node/chat/messages.py",
    "node/chat/native_calls.py",
    "node/chat/partial_text.py",
    "node/chat/plain_prompt.py",
    "node/chat/reasoning.py",
    "node/chat/template.py",
    "node/chat/tools.py",
    "node/answer_reader.py",
    "node/attached/answer_stream.py",
    "node/attached/dialect.py",
    "node/attached/error_answer.py",
    "node/attached/json_fields.py",
    "node/attached/logprob_answer.py",
    "node/attached/lookup_answer.py",
    "node/attached/model_list.py",
    "node/attached/request_body.py",
    "node/attached/server_url.py",
    "node/attached/sse.py",
    "node/models/gguf_header.py",
    "node/models/gpu_layers.py",
    "node/models/memory_estimate.py",
    "node/models/ranking_head.py",
    "node/models/split_files.py",
    "node/models/yaml_reader.py",
    "node/models/yaml_writer.py",
    "node/sources/answers.py",
    "node/sources/bounded_yaml.py",
    "node/sources/download_core.py",
    "node/sources/file_names.py",
    "node/sources/gallery_index.py",
    "node/sources/gallery_install.py",
    "node/sources/gallery_source.py",
    "node/sources/hugging_face.py",
    "node/sources/model_settings.py",
    "node/sources/ollama.py",
    "node/sources/reference.py",
    "node/sources/source_files.py",
    "node/sources/source_settings.py",
    "node/sources/web_url.py",
    "node/store/model_files.py",
    "node/store/sealed.py",
    "node/suggest/advice_map.py",
    "node/suggest/advice_text.py",
    "node/suggest/holdings.py",
    "node/suggest/machine.py",
    "node/suggest/stated.py",
    "node/suggest/suggest.py",
    "node/openai_stream.py",
    "node/residency.py",
    "node/engine_params.py",
    "node/engine_request.py",
    "node/host_name.py",
    "node/listening.py",
    "node/readiness.py",
    "node/speeds.py",
    "node/status.py",
    "node/status_table.py",
    "node/ledger_inspection.py",
    "node/ledger_report.py",
    "api/access.py",
    "api/body_types.py",
    "api/answer_models.py",
    "api/sampling_body.py",
    "api/constraint_body.py",
    "api/tool_body.py",
    "api/message_body.py",
    "api/schema.py",
    "api/chat_body.py",
    "api/completion_body.py",
    "api/vectors.py",
    "api/embeddings.py",
    "api/rerank.py",
    "api/tokens.py",
    "api/collected.py",
    "api/logprob_shapes.py",
    "api/shapes.py",
    "api/chat_shape.py",
    "api/completion_shape.py",
    "api/sse.py",
)


def sources() -> Iterator[Path]:
    for folder in ORDER:
        yield from sorted((ROOT / folder).rglob("*.py"))


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            yield from ((statement.lineno, alias.name) for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            yield statement.lineno, statement.module


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_folders_import_only_to_the_left() -> None:
    upward = [
        f"{name_of(path)}:{line} imports {module}"
        for path in sources()
        for line, module in imports_of(path)
        if module.split(".")[0] in ORDER[ORDER.index(name_of(path).split("/")[0]) + 1 :]
    ]
    assert not upward


def test_api_sees_only_the_backend_port() -> None:
    allowed = (
        "federation.backend",
        "federation.trace",
        "federation.request_limits",
        "federation.errors",
        "ledger.records",
    )
    beyond = [
        f"{name_of(path)}:{line} imports {module}"
        for path in sources()
        if name_of(path).startswith("api/")
        for line, module in imports_of(path)
        if module.split(".")[0] in ("p2p", "ledger", "federation") and module not in allowed
    ]
    assert not beyond, "api/ answers over any backend: it knows neither peers nor the ledger"


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_guarded_package_is_imported_in_its_place_only(package: str) -> None:
    places, reason = ONLY_IN[package]
    strays = [
        f"{name_of(path)}:{line}"
        for path in sources()
        for line, module in imports_of(path)
        if module.split(".")[0] == package and name_of(path) not in places
    ]
    assert not strays, reason


@pytest.mark.parametrize("package", ONLY_UNDER)
def test_a_package_of_one_folder_stays_there(package: str) -> None:
    folder, reason = ONLY_UNDER[package]
    strays = [
        f"{name_of(path)}:{line}"
        for path in sources()
        for line, module in imports_of(path)
        if module.split(".")[0] == package and not name_of(path).startswith(f"{folder}/")
    ]
    assert not strays, reason


def distribution_name(requirement: str) -> str:
    """The name in `requirement`, spelt as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[=<>~; ]", requirement)[0]).lower()


def test_what_is_imported_is_declared() -> None:
    """A package that is only there because another one needs it is gone the day that one does not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {distribution_name(requirement) for requirement in project["dependencies"]}
    providers = packages_distributions()
    undeclared = [
        f"{name_of(path)}:{line} imports {module}"
        for path in sources()
        for line, module in imports_of(path)
        if (package := module.split(".")[0]) not in ORDER and package not in sys.stdlib_module_names
        if declared.isdisjoint(distribution_name(name) for name in providers.get(package, ()))
    ]
    assert not undeclared


@pytest.mark.parametrize("core", CORES)
def test_a_core_only_decides(core: str) -> None:
    impure = [
        f"{core}:{line} imports {module}: {CORE_MUST_NOT_IMPORT[module.split('.')[0]]}"
        for line, module in imports_of(ROOT / core)
        if module.split(".")[0] in CORE_MUST_NOT_IMPORT
    ]
    assert not impure
