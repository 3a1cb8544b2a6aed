"""`/models/...`: getting models and watching how far that is, as LocalAI's clients do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import trio
from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api import sse
from api.answer import hang_up
from api.errors import HttpError
from api.model_manager import ModelManager
from api.model_store_bodies import Applied, ApplyBody, AvailableModel, JobState, job_state
from api.openapi import ERROR_RESPONSES, Responses

_EVENT_INTERVAL = 0.2
"""Seconds between two events of one stream: what a person can follow."""
_WARNINGS_SIZE_MAX = 4096
"""Bytes: clients and proxies take 8 KiB of headers."""
_LOOK_INTERVAL = 1.0
"""Seconds between two looks at a job, whatever is told of: that a model is loaded or hashed tells nobody."""
_SILENCE_MAX = 10.0
"""Seconds without an event until a comment is sent, as in streamed answers."""

_APPLIED: Responses = {200: {"model": Applied}, **ERROR_RESPONSES}
_JOB: Responses = {200: {"model": JobState}, **ERROR_RESPONSES}
_JOBS: Responses = {200: {"model": list[JobState]}, **ERROR_RESPONSES}
_AVAILABLE: Responses = {
    200: {
        "model": list[AvailableModel],
        "headers": {
            "x-localai-warnings": {
                "description": "What is not in the list, and why: a list of texts, as JSON.",
                "schema": {"type": "string"},
            }
        },
    },
    **ERROR_RESPONSES,
}
_EVENTS: Responses = {
    200: {
        "model": JobState,
        "description": "The job, each time it changed, until it has ended.",
        "content": {"text/event-stream": {}},
    },
    **ERROR_RESPONSES,
}


def model_store_routes(manager: ModelManager) -> APIRouter:
    """The endpoints that get models and remove them."""
    router = APIRouter(tags=["models"])

    @router.post("/models/apply", responses=_APPLIED)
    async def apply(body: ApplyBody, request: Request) -> dict[str, str]:
        """Get a model, from the swarm if anybody there has it. Answers at once; the job goes on."""
        job_id = manager.order_model(body.order())["id"]
        return {"uuid": job_id, "status": str(request.url_for("show_job", job_id=job_id))}

    @router.get("/models/available", responses=_AVAILABLE)
    async def available(response: Response) -> list[dict[str, Any]]:
        """What the galleries offer."""
        found = await manager.available_models()
        if found.warnings:
            response.headers["x-localai-warnings"] = _warnings_header(found.warnings)
        return [dict(model) for model in found.models]

    @router.post("/models/delete/{name:path}", responses=ERROR_RESPONSES)
    async def delete(name: str) -> dict[str, Any]:
        """Serve a model no more, once nothing runs on it. Deletes no file that its owner keeps elsewhere."""
        return {"name": name, "deleted": list(await manager.delete_model(name))}

    return router


def _warnings_header(warnings: Sequence[str]) -> str:
    """As many of them as there is room for, as JSON. In the body LocalAI's clients expect models alone."""
    told = list(warnings)
    text = json.dumps(told)
    while len(text) > _WARNINGS_SIZE_MAX:
        told.pop()
        text = json.dumps([*told, "and more: see the log"])
    return text


def job_routes(manager: ModelManager) -> APIRouter:
    """The endpoints that watch what takes a while, and end it."""
    router = APIRouter(tags=["models"])

    def known(job_id: str) -> Mapping[str, Any]:
        if (job := manager.job(job_id)) is None:
            raise HttpError(404, f"this node has no job {job_id!r}, or not any more", code="unknown_job")
        return job

    @router.get("/models/jobs", responses=_JOBS)
    async def list_jobs() -> list[dict[str, Any]]:
        """Every job that runs, waits, or ended of late, the oldest first."""
        return [job_state(job) for job in manager.jobs()]

    # First, since ids have slashes where names of models do.
    @router.get("/models/jobs/{job_id:path}/events", responses=_EVENTS, response_class=Response)
    async def follow_job(job_id: str) -> Response:
        """The same as server-sent events, each time it changed, until it has ended."""
        known(job_id)
        return _JobEvents(manager, job_id)

    @router.get("/models/jobs/{job_id:path}", responses=_JOB)
    async def show_job(job_id: str) -> dict[str, Any]:
        """How far a job is."""
        return job_state(known(job_id))

    @router.post("/models/jobs/{job_id:path}/cancel", responses=_JOB)
    async def cancel_job(job_id: str) -> dict[str, Any]:
        """End a job. What it has fetched, or hashed, is kept for another time."""
        before = known(job_id)
        if not manager.cancel_job(job_id):
            raise HttpError(409, f"job {job_id!r} has ended already", code="job_has_ended")
        # Loading and hashing are shown only as long as they go on.
        return job_state(manager.job(job_id) or {**before, "state": "cancelled"})

    return router


class _JobEvents(Response):
    """A job's states until it has ended, or the client hangs up."""

    def __init__(self, manager: ModelManager, job_id: str) -> None:
        self.background = None
        self._manager = manager
        self._job_id = job_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        await send({"type": "http.response.start", "status": 200, "headers": list(sse.HEADERS)})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell, send, nursery.cancel_scope)
            await hang_up(receive)
            nursery.cancel_scope.cancel()
        await send({"type": "http.response.body", "body": sse.DONE, "more_body": False})

    async def _tell(self, send: Send, waiting: trio.CancelScope) -> None:
        said: dict[str, Any] = {}
        silent_since = trio.current_time()
        # None: it ended, and so many did since that it is not kept any more.
        while (job := self._manager.job(self._job_id)) is not None:
            number = self._manager.jobs_revision()
            if (state := job_state(job)) != said:
                said, silent_since = state, trio.current_time()
                await send({"type": "http.response.body", "body": sse.event(state), "more_body": True})
            elif trio.current_time() >= silent_since + _SILENCE_MAX:
                silent_since = trio.current_time()
                await send({"type": "http.response.body", "body": sse.comment("waiting"), "more_body": True})
            if state["processed"]:
                break
            await trio.sleep(_EVENT_INTERVAL)
            with trio.move_on_after(_LOOK_INTERVAL):
                await self._manager.jobs_changed(number)
        waiting.cancel()
