"""Gets one model: from peers if any has it, else from its source, or from who gets it from there.

    wanted by a manifest      a peer's files, known to the byte
    wanted by a reference     1. somebody has it from there, or (a gallery's name) one of that name: as above
                              2. the source knows its hash, and somebody has that: as above
                              3. somebody downloads it: take it from there as it comes
                              4. nobody does: download it, and let others take it from here

Of two that download the same, the smaller peer id goes on, and the other one follows it. Where the one that
downloads is gone, or gives nothing, those that followed it all begin to, and the same rule leaves one of them
in a moment.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from functools import partial

import trio

from ledger.records import ModelName
from node.install.errors import NotFound, NotSame
from node.install.order import Order
from node.install.search import (
    Copies,
    Matches,
    names_like,
    of_manifest,
    of_name,
    of_source,
    of_weights,
    origin_of,
)
from node.install.tally import Tally
from node.install.ways import Means, Ways
from node.jobs.runner import Report
from node.models.demo_model import DEMO_MODEL_SHA256
from node.sources.errors import NotInGallery, SourceError, SourceUnavailable
from node.sources.reference import (
    DemoReference,
    FileReference,
    GalleryReference,
    Reference,
    parse_reference,
)
from node.sources.resolve import Resolver
from node.sources.source_files import SourceFiles
from node.store.errors import WrongContent
from node.store.model_files import SETTINGS, weights_sha256_of
from p2p.blobs.errors import NobodyHasIt
from p2p.blobs.manifest import FileKey, ManifestId, source_key
from p2p.peer import PeerId

logger = logging.getLogger(__name__)

OpenResolver = Callable[[], AbstractAsyncContextManager[Resolver]]
"""Sources outside of the swarm, with connections of their own."""

_SOURCE_PAUSE = 30.0
"""Seconds until a source that does not answer is asked again, while the swarm may have it any moment."""


@dataclass(frozen=True, slots=True)
class Installer:
    """Gets models, one order in one task each."""

    means: Means
    open_resolver: OpenResolver

    async def install(self, order: Order, report: Report) -> ModelName:
        """Get and serve what `order` says; returns its name. Cancelled: what came is kept for another time.

        Raises:
          NodeError, P2PError: it cannot be had; says why. What came is kept, unless it is of no use.
        """
        tally = Tally(report.job.model, report.progress)
        tally.model = await _Install(self, order, report, tally).run()
        if not order.is_placed:
            await self.means.shelf.claim(ModelName(tally.model))
        tally.say("done")
        return ModelName(tally.model)


class _Install:
    """One order: which way it goes, again whenever one led nowhere."""

    def __init__(self, installer: Installer, order: Order, report: Report, tally: Tally) -> None:
        self._of = installer
        self._swarm = installer.means.swarm
        self._order = order
        self._report = report
        self._tally = tally
        self._ways = Ways(installer.means, order, self._tally, report.warn)
        self._was_there = False
        """Somebody of the swarm had it, or was getting it."""
        self._useless: set[ManifestId] = set()
        """What peers say to have, and did not give."""
        self._lie: NotSame | None = None
        """What they gave instead, the last time."""
        self._useless_leaders: set[PeerId] = set()
        """Who downloads it and gives nothing, or gave something else than they said in the end."""

    async def run(self) -> ModelName:
        if self._order.reference:
            return await self._run_reference(parse_reference(self._order.reference))
        return await self._run_placed()

    async def _run_placed(self) -> ModelName:
        """From peers alone."""
        manifest, name = self._order.manifest, self._order.name
        matches = of_manifest(ManifestId(manifest)) if manifest else of_name(name)
        await self._swarm.has_met(matches)
        while (copies := self._whole(matches)) is not None:
            if (taken := await self._take(copies)) is not None:
                return taken
        raise self._lie or NobodyHasIt(f"no node that is here has all of {name}")

    async def _run_reference(self, reference: Reference) -> ModelName:
        async with self._of.open_resolver() as resolver:
            if isinstance(reference, FileReference):
                return await self._ways.load(
                    resolver.client, await resolver.resolve(reference, self._order.wishes())
                )
            self._ways.source = self._source_of(reference)
            while (served := await self._once(reference, resolver)) is None:
                pass
            return served

    async def _once(self, reference: Reference, resolver: Resolver) -> ModelName | None:
        """One way to get it; None: the swarm is another one by now, so look again."""
        if (mine := self._ways.mine() or self._placed_here(reference)) is not None:
            return mine
        if (copies := self._find(reference)) is not None:
            return await self._take(copies)
        leader = self._leader()
        if leader is not None:
            self._was_there = True
            return await self._follow(leader, reference, resolver)
        if any([await self._swarm.has_met(matches) for matches in self._matches(reference)]):
            return None
        found = await self._resolve(
            reference, resolver, lambda: self._find(reference) is not None or self._leader() is not None
        )
        return None if found is None else await self._from_source(found, resolver)

    async def _from_source(self, found: SourceFiles, resolver: Resolver) -> ModelName | None:
        """Download `found`, unless somebody has it under another name."""
        sha256 = weights_sha256_of({file.name: file.sha256 for file in found.files})
        if sha256:
            await self._swarm.has_met(of_weights(sha256))
            if (copies := self._whole(of_weights(sha256))) is not None:
                return await self._take(copies, found)
        for warning in found.warnings:
            self._report.warn(warning)

        def is_outranked() -> bool:
            other = self._leader()
            return other is not None and other < self._swarm.me

        return await self._swarm.until(is_outranked, partial(self._ways.download, resolver.client, found))

    async def _take(self, copies: Copies, found: SourceFiles | None = None) -> ModelName | None:
        """Get it from who has `copies`, if they are all files of `found`. None: nothing comes of that, so
        they count as useless; of other copies, or the source, something may."""
        taken = None
        try:
            manifest = await self._ways.manifest(copies)
            files = {file.name for file in manifest.files} - {SETTINGS}
            if found is None or files == {file.name for file in found.files}:
                taken = await self._ways.take(copies, manifest, found)
            self._was_there = True
        except NobodyHasIt:
            self._was_there = True
        except NotSame as error:
            logger.warning("%s", error)
            self._lie = error
        if taken is None:
            self._useless.add(copies.manifest)
        return taken

    async def _follow(self, leader: PeerId, reference: Reference, resolver: Resolver) -> ModelName | None:
        found = await self._resolve(reference, resolver, lambda: self._leader() != leader)
        if found is None:
            return None
        try:
            taken = await self._ways.follow(leader, found)
        except WrongContent:
            # Or what was here before was another version of it. It is gone now.
            self._useless_leaders.add(leader)
            return None
        if taken is None and self._leader() == leader:
            name = self._swarm.names().get(leader, leader)
            self._report.warn(f"{name} says to download it and gives nothing: getting it elsewhere")
            self._useless_leaders.add(leader)
        return taken

    async def _resolve(
        self, reference: Reference, resolver: Resolver, is_elsewhere: Callable[[], bool]
    ) -> SourceFiles | None:
        """What the source has; None: it does not say, and by now `is_elsewhere`.

        Raises:
          SourceError: it does not say, and nobody of the swarm ever had it.
          NotFound: the same, of a name.
          NotSame: the same, and peers said they had it.
        """
        self._tally.say("looking it up")
        try:
            return await resolver.resolve(reference, self._order.wishes())
        except SourceError as error:
            if not self._was_there:
                if self._lie is not None:
                    raise NotSame(f"{self._lie}; and from its source: {error}") from error
                if isinstance(reference, GalleryReference) and isinstance(
                    error, NotInGallery | SourceUnavailable
                ):
                    raise self._not_found(reference, error) from error
                raise
            # It can be had all the same: from who has it, or will.
            self._tally.say(f"waiting for a node that has it ({error})", is_waiting=True)
            with trio.move_on_after(_SOURCE_PAUSE):
                await self._swarm.wait_until(is_elsewhere)
            # Who was too busy to give it may have time by now.
            self._useless.clear()
            return None

    def _not_found(self, reference: GalleryReference, error: SourceError) -> NotFound:
        """`error`, which a gallery is the cause of, with what the swarm has to do with it."""
        text = str(error)
        if isinstance(error, SourceUnavailable):
            text = f"no node that is here has {reference.name}, and it cannot be looked up: {error}"
        if close := names_like(self._swarm.nodes(), self._swarm.me, reference.name):
            text += f"; nodes that are here have {', '.join(close)}"
        return NotFound(text)

    def _source_of(self, reference: Reference) -> FileKey:
        """What this order is known by to others that want the same."""
        wanted = reference.canonical
        if self._is_special:
            files = [asdict(file) for file in self._order.files]
            wanted += json.dumps([self._order.overrides, files], sort_keys=True)
        return source_key(hashlib.sha256(wanted.encode()).hexdigest())

    @property
    def _is_special(self) -> bool:
        """It is to be otherwise than its source has it, and than others got it from there."""
        return bool(self._order.overrides or self._order.files)

    def _placed_here(self, reference: Reference) -> ModelName | None:
        """The model that the swarm put here by the name that somebody asks for now."""
        match reference:
            case GalleryReference(name, gallery="") if not self._is_special and not self._order.name:
                return ModelName(name) if name in self._of.means.shelf.placed() else None
        return None

    def _leader(self) -> PeerId | None:
        """Who else downloads it, and may be followed."""
        return origin_of(self._swarm.nodes(), self._swarm.me, self._ways.source, self._may_follow)

    def _may_follow(self, peer: PeerId) -> bool:
        return peer not in self._useless_leaders and self._of.means.fetcher.may_use(peer)

    def _whole(self, matches: Matches) -> Copies | None:
        """Whole copies at others, but those that came to nothing."""
        return self._swarm.whole(lambda record: record.manifest not in self._useless and matches(record))

    def _find(self, reference: Reference) -> Copies | None:
        """Whole copies of what `reference` means, as far as that can be told without asking its source."""
        found = (self._whole(matches) for matches in self._matches(reference))
        return next((copies for copies in found if copies is not None), None)

    def _matches(self, reference: Reference) -> Sequence[Matches]:
        """What is the model that `reference` means, the surest first."""
        match reference:
            case DemoReference() if not self._is_special:
                return of_source(self._ways.source), of_weights(DEMO_MODEL_SHA256)
            case GalleryReference(name, gallery="") if not self._is_special:
                return of_source(self._ways.source), of_name(name)
        return (of_source(self._ways.source),)
