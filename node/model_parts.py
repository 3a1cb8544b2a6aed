"""How a node's models come and go: the parts for it, and how they hold each other.

    manager -> jobs -> installer -> fetcher ~ blob/1 ~ seeder -> store
       ^                  +-------> sources outside       (another node's)
    placer -> plan

Wired here, run in one nursery by `Node` (`node/runtime.py`).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Any

import psutil
import trio

from ledger.ledger import Ledger
from ledger.records import ModelName, ModelRecord
from ledger.view import SwarmView
from node.config import NodeConfig
from node.errors import NodeError
from node.hardware import memory_for_models, usable_memory
from node.home import write_private
from node.install.coming import Coming
from node.install.installer import Installer
from node.install.manager import Manager, OpenGalleries, perform
from node.install.model_notes import ModelNotes
from node.install.shelf import Shelf
from node.install.swarm_watch import SwarmWatch
from node.install.tidying import tidy
from node.install.ways import Means
from node.jobs.runner import Jobs
from node.models.catalog import Catalog
from node.placement.absences import Absences
from node.placement.placer import Placer
from node.served_model import make_engine
from node.sources.galleries import open_galleries
from node.sources.gallery_source import GallerySource
from node.sources.resolve import Resolver
from node.store.foreign import foreign_models
from node.store.store import Store
from node.suggest.look import lack_of_memory_here
from node.worker import Worker, WorkerSettings
from p2p.blobs.fetcher import Fetcher
from p2p.blobs.reputation import Reputation
from p2p.blobs.seeder import Seeder
from p2p.blobs.upload import UploadLimits
from p2p.peer import PeerId
from p2p.swarm import Swarm

logger = logging.getLogger(__name__)

_REPUTATION_INTERVAL = 60.0
"""Seconds between two looks whether somebody's reputation changed: a crash costs a minute of it."""


@dataclass(frozen=True, slots=True)
class ModelParts:
    """Of a node that runs models."""

    manager: Manager
    shelf: Shelf
    placer: Placer
    seeder: Seeder
    fetcher: Fetcher
    coming: Coming
    _jobs: Jobs
    _reputation: Reputation
    _reputation_file: Path

    def records(self, served: Iterable[ModelRecord]) -> Sequence[ModelRecord]:
        """What the swarm is told: the models that are `served`, with what is remembered of each, and those
        that are on their way."""
        served = [self._noted(record) for record in served]
        return [*served, *self.coming.beside(served)]

    async def run(self) -> None:
        """Seed, fetch, run jobs and do our part of the plan, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.seeder.run)
            nursery.start_soon(self.fetcher.run)
            nursery.start_soon(self._jobs.run)
            nursery.start_soon(self.placer.run)
            nursery.start_soon(self._keep_reputation)

    def _noted(self, record: ModelRecord) -> ModelRecord:
        if record.program:
            return record  # Of a server that is attached: nobody put it here.
        note = self.shelf.notes.of(record.name, record.sha256)
        return replace(record, source=note.source, is_placed=note.is_placed)

    async def _keep_reputation(self) -> None:
        kept = self._reputation.to_map()
        while True:
            await trio.sleep(_REPUTATION_INTERVAL)
            if (now := self._reputation.to_map()) != kept:
                kept = now
                await trio.to_thread.run_sync(_write_reputation, self._reputation_file, now)


@dataclass(frozen=True, slots=True)
class OwnModels:
    """What this node has, and what runs it."""

    catalog: Catalog
    store: Store
    worker: Worker


def own_models(config: NodeConfig, me: PeerId) -> OwnModels:
    """A worker for the models that were asked for, which it loads at once, and those of the home."""
    catalog = Catalog(config.home.models, memory_bytes=psutil.virtual_memory().total)
    store = Store(hashes=config.home.hashes, manifests=config.home.manifests)
    memory_bytes = psutil.virtual_memory().total
    found = [foreign_models(folder, memory_bytes=memory_bytes) for folder in config.models_from]
    preload = catalog.read(config.models, [model for models, _ in found for model in models])
    unfit = [warning for _, warnings in found for warning in warnings]
    missing = [
        f"there is no model {name} to pin" for name in config.pinned if name not in catalog.definitions
    ]
    for warning in (*catalog.warnings, *unfit, *missing):
        logger.warning("%s", warning)
    settings = WorkerSettings(
        slots=config.slots,
        cache_type=config.kv_cache_type,
        memory_bytes=config.memory_bytes or memory_for_models(usable_memory()),
        keep_alive=config.keep_alive,
        pinned=frozenset(map(ModelName, config.pinned)),
    )
    worker = Worker(
        me,
        catalog.definitions.values(),
        store=store,
        settings=settings,
        preload=preload,
        make_engine=partial(make_engine, memory_max=config.engine_memory),
    )
    return OwnModels(catalog, store, worker)


def wire_models(
    config: NodeConfig,
    swarm: Swarm,
    ledger: Ledger,
    view: SwarmView,
    own: OwnModels,
    *,
    is_inference_busy: Callable[[], bool],
) -> ModelParts:
    """The parts, connected."""
    home = config.home
    reputation = _read_reputation(home.reputation_file)
    rng = SystemRandom()
    fetcher = Fetcher(swarm, reputation, rng, wall_clock=time.time, is_inference_busy=is_inference_busy)
    shelf = Shelf(own.catalog, own.worker, ModelNotes(home.model_notes_file))
    coming = Coming()
    galleries = galleries_of(config)
    means = Means(
        swarm=SwarmWatch(view, ledger.me),
        store=own.store,
        shelf=shelf,
        fetcher=fetcher,
        folder=home.models,
        coming=coming,
        lack_of_memory=partial(lack_of_memory_here, own.worker),
    )
    installer = Installer(means, partial(_open_resolver, config, galleries))
    jobs = Jobs(home.jobs_file, partial(perform, installer), partial(tidy, home.models, own.store.manifests))
    manager = Manager(jobs, shelf, galleries, models_size_max=config.models_size_max)
    return ModelParts(
        manager=manager,
        shelf=shelf,
        placer=Placer(swarm, view, ledger, manager, Absences()),
        seeder=Seeder(swarm, own.store, UploadLimits(rate=config.upload_rate), is_inference_busy),
        coming=coming,
        _jobs=jobs,
        fetcher=fetcher,
        _reputation=reputation,
        _reputation_file=home.reputation_file,
    )


def galleries_of(config: NodeConfig) -> OpenGalleries:
    """The galleries that this node knows."""
    sources = [GallerySource.parse(text) for text in config.galleries]
    return partial(open_galleries, sources, config.home.galleries)


@asynccontextmanager
async def _open_resolver(config: NodeConfig, open_galleries: Callable[[], Any]) -> AsyncIterator[Resolver]:
    async with open_galleries() as galleries:
        yield Resolver(galleries.client, config.sources, galleries)


def _read_reputation(path: Path) -> Reputation:
    try:
        return Reputation.from_map(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return Reputation()
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning("what was kept of peers' reputations is of no use: path=%s error=%s", path, error)
        return Reputation()


def _write_reputation(path: Path, values: Mapping[str, Any]) -> None:
    try:
        write_private(path, json.dumps(values).encode())
    except NodeError as error:
        logger.warning("peers' reputations are not kept: %s", error)
