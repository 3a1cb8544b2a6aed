"""The flags of a command that runs a node, and the configuration they make."""

from __future__ import annotations

import math
import os
import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from node.config import (
    LABELS_MAX,
    POLICIES,
    SLOTS_DEFAULT,
    WEIGHTS,
    Command,
    NodeConfig,
    api_key_option,
    api_option,
    backend_key_option,
    backend_option,
    gallery_option,
    home_option,
    listen_option,
    setting,
)
from node.flag_types import FOREVER, KeepAliveType, LabelType, NameType, SizeType
from node.home import Home
from node.sources.source_settings import LOCALAI_GALLERY, SourceSettings
from node.store.usual_folders import models_folder

_SLOTS_MAX = 256
"""llama.cpp refuses more sequences in one context."""
_BACKEND_SLOTS_MAX = 4096
"""More than any server of a home batches."""

_RUN_SETTINGS = (
    setting(
        "--name",
        type=NameType(),
        default=socket.gethostname,
        show_default="this machine's",
        help="How others see this node.",
    ),
    api_option,
    listen_option,
    setting(
        "--hedge",
        type=click.FloatRange(0, 1),
        default=0.0,
        help="Share of streams, as 0.05, that one more node may get if the first is late; the faster stays.",
    ),
    setting("--mdns/--no-mdns", default=True, help="Find members of this swarm on the local network."),
    api_key_option,
    setting(
        "--allow-unauthenticated", is_flag=True, help="Let a public address answer anyone, without a key."
    ),
    setting(
        "--policy",
        type=click.Choice(POLICIES),
        default="eta",
        show_default=True,
        help="How a peer is chosen: who would be done first (eta), by its share of slots, or at random.",
    ),
    setting(
        "--label",
        multiple=True,
        type=LabelType(),
        metavar="NAME",
        help="What else requests may call this node by: gpu, quiet. Repeatable.",
    ),
    setting(
        "--weight",
        type=click.FloatRange(*WEIGHTS),
        default=1.0,
        show_default=True,
        help="How much this node is to be used: 2 is as if it was twice as fast.",
    ),
    setting(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        help="What is worth a line on stderr.",
    ),
    setting(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Lines for people, or for programs.",
    ),
    click.option(
        "--exit-with-stdin", is_flag=True, help="End when stdin ends: for programs that own a node."
    ),
    gallery_option,
)
_WORKER_SETTINGS = (
    setting(
        "--model",
        multiple=True,
        type=click.Path(),
        metavar="FILE|demo",
        help="A GGUF file to serve, or the bundled demo model. Repeatable.",
    ),
    setting(
        "--models-from",
        multiple=True,
        metavar="DIR|ollama|huggingface",
        help="A folder whose models are served where they are, or where that program has them. Repeatable.",
    ),
    setting(
        "--slots",
        type=click.IntRange(1, _SLOTS_MAX),
        default=SLOTS_DEFAULT,
        show_default=True,
        help="Answers each model gives at once.",
    ),
    setting(
        "--memory",
        type=SizeType(),
        metavar="SIZE",
        help="What all models together may take, for example 8GiB; if not given, most of what there is."
        " Weights count that go to a GPU, too.",
    ),
    setting(
        "--keep-alive",
        type=KeepAliveType(),
        default=FOREVER,
        show_default=True,
        help="How long a model that nobody uses stays in memory, for example 15m.",
    ),
    setting(
        "--pin",
        multiple=True,
        metavar="MODEL",
        help="A model, by its name, that is loaded at the start and stays. Repeatable.",
    ),
    setting(
        "--kv-cache-type",
        type=click.Choice(["f16", "q8_0", "q4_0"]),
        default="f16",
        show_default=True,
        help="How contexts are kept: q8_0 takes half of the memory, q4_0 a quarter.",
    ),
    setting(
        "--engine-memory",
        type=SizeType(),
        metavar="SIZE",
        help="End a model's process that needs more memory, beside its file, than for example 6GB.",
    ),
    setting(
        "--accept-models",
        is_flag=True,
        help="Let the swarm place models here (`localai-node models place`).",
    ),
    setting(
        "--max-models-size",
        type=SizeType(),
        metavar="SIZE",
        help="What models that the swarm places here may take together, for example 100GB; if not given, a"
        " quarter of the disk.",
    ),
    setting(
        "--upload-rate",
        type=SizeType(),
        metavar="SIZE",
        help="What all nodes together may fetch of this one's models in a second, for example 20MB.",
    ),
    setting("--worker/--no-worker", default=True, help="Run models here, or only route requests."),
    backend_option,
    setting(
        "--backend-slots",
        type=click.IntRange(1, _BACKEND_SLOTS_MAX),
        help="Answers each attached server gives at once, if it does not say it or you know better.",
    ),
    backend_key_option,
)


def run_options(*, worker: bool) -> Callable[[Command], Command]:
    """Give a command that runs a node its flags, each also read from `LOCALAI_NODE_*` and config.toml."""

    def decorate(command: Command) -> Command:
        for option in reversed((*_RUN_SETTINGS, *(_WORKER_SETTINGS if worker else ()))):
            command = option(command)
        return home_option(command)

    return decorate


def node_config(home: Home, options: Mapping[str, Any]) -> NodeConfig:
    """The configuration in the parsed `options` of a command with `run_options`."""
    if len(options["label"]) > LABELS_MAX:
        raise click.UsageError(f"a node has {LABELS_MAX} labels at most")
    return NodeConfig(
        home=home,
        name=options["name"],
        api=options["api"],
        listen=tuple(options["listen"]),
        models=tuple(options.get("model", ())),
        models_from=tuple(
            models_folder(text, os.environ, Path.home()) for text in options.get("models_from", ())
        ),
        slots=options.get("slots", SLOTS_DEFAULT),
        memory_bytes=options.get("memory"),
        keep_alive=options.get("keep_alive", math.inf),
        pinned=tuple(options.get("pin", ())),
        kv_cache_type=options.get("kv_cache_type", "f16"),
        engine_memory=options.get("engine_memory") or 0,
        worker=options.get("worker", False),
        backends=tuple(options.get("backend", ())),
        backend_slots=options.get("backend_slots"),
        backend_key=options.get("backend_key") or "",
        mdns=options["mdns"],
        hedge=options["hedge"],
        api_keys=tuple(options["api_key"]),
        allow_unauthenticated=options["allow_unauthenticated"],
        policy=options["policy"],
        labels=tuple(options["label"]),
        weight=options["weight"],
        models_size_max=_models_size_max(home, options),
        upload_rate=float(options.get("upload_rate") or 0),
        galleries=tuple(options["gallery"] or (LOCALAI_GALLERY,)),
        sources=SourceSettings.of(os.environ),
        exit_with_stdin=options["exit_with_stdin"],
    )


def _models_size_max(home: Home, options: Mapping[str, Any]) -> int:
    """What the swarm may place here: a size that stays the same, or every plan would be another one."""
    if not options.get("accept_models"):
        return 0
    declared: int | None = options.get("max_models_size")
    if declared:
        return declared
    folder = next(each for each in (home.path, *home.path.parents) if each.exists())
    return shutil.disk_usage(folder).total // 4
