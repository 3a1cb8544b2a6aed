"""What the tests of api/ share: an app over a stub backend, and how to call it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from fastapi import FastAPI

from api.app import create_app
from api.settings import ApiSettings
from federation.errors import ModelNotFound
from tests.api.stub_backend import SERVED_BY, StubBackend
from tests.api.stub_manager import StubManager
from tests.asgi import Exchange, Reply, open_request
from tests.mock_time import run

NODE = {"id": SERVED_BY, "name": "stub-node", "models": [{"name": "stub", "state": "loaded"}]}


@dataclass
class StubStatus:
    """A node that is what a test says it is."""

    reason: str | None = None
    view: Mapping[str, Any] = field(default_factory=lambda: {"swarm": "home", "self": "me", "nodes": [NODE]})
    counted: Mapping[str, Mapping[str, int]] = field(
        default_factory=lambda: {
            "refusals": {SERVED_BY: 3, "who-left": 9},
            "failures": {SERVED_BY: 2},
            "stalls": {},
            "hedges": {},
            "retries": {},
            "resumes": {SERVED_BY: 1},
            "fetched_bytes": {SERVED_BY: 4_000_000},
            "uploaded_bytes": {SERVED_BY: 50_300_000},
        }
    )

    monitored: Mapping[str, Any] = field(default_factory=dict)
    loaded: dict[str, bool] = field(default_factory=dict)
    """By model."""

    def swarm(self) -> Mapping[str, Any]:
        return self.view

    def refused_entries(self) -> Mapping[str, int]:
        return {"bad_signature": 2, "stale": 7}

    def peer_counts(self) -> Mapping[str, Mapping[str, int]]:
        return self.counted

    def engines(self) -> Mapping[str, Any]:
        return self.monitored

    def explain_route(self, model: str, prompt_tokens: int, max_tokens: int | None) -> dict[str, Any]:
        if model not in self.loaded:
            raise ModelNotFound(f"no node of the swarm has {model}")
        return {"model": model, "prompt_tokens": prompt_tokens, "max_tokens": max_tokens}

    async def shut_down(self, model: str) -> bool:
        await trio.lowlevel.checkpoint()
        if model not in self.loaded:
            raise ModelNotFound(f"this node has no model {model}")
        was_loaded, self.loaded[model] = self.loaded[model], False
        return was_loaded

    def readiness(self) -> str | None:
        return self.reason


@dataclass
class Bench:
    """One app over a stub backend, and how to call it."""

    backend: StubBackend
    status: StubStatus
    manager: StubManager
    app: FastAPI

    def open(self, method: str, path: str, **options: Any) -> AbstractAsyncContextManager[Exchange]:
        """A request under way; leaving the block hangs up."""
        return open_request(self.app, method, path, **options)

    def call(self, method: str, path: str, json_body: Any = None, **options: Any) -> Reply:
        """A whole request, from a test that is not async itself."""

        async def main() -> Reply:
            async with self.open(method, path, json_body=json_body, **options) as exchange:
                return await exchange.reply()

        reply: Reply = run(main)
        return reply

    def chat(self, **parameters: Any) -> Reply:
        """A chat completion; `parameters` add to the smallest body there is."""
        return self.call("POST", "/v1/chat/completions", {**SMALLEST_CHAT, **parameters})


SMALLEST_CHAT = {"model": "stub", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def smallest_chat() -> dict[str, Any]:
    """The smallest body of a chat completion there is."""
    return dict(SMALLEST_CHAT)


@pytest.fixture
def run_mocked() -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """`run`, for tests that are async inside."""
    return run


@pytest.fixture
def new_bench() -> Callable[..., Bench]:
    """Makes a `Bench`: settings and the stub's script by keyword."""

    def new(settings: Mapping[str, Any] | None = None, **script: Any) -> Bench:
        backend = StubBackend(**script)
        status, manager = StubStatus(), StubManager()
        app_settings = ApiSettings(version="1.2.3", **(settings or {}))
        return Bench(backend, status, manager, create_app(backend, app_settings, status, manager))

    return new


@pytest.fixture
def bench(new_bench: Callable[..., Bench]) -> Bench:
    """A node on loopback without keys, whose model says `Paris`."""
    return new_bench()
