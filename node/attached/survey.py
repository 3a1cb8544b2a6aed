"""Finds out who a server is and what it has, with a few small questions.

/v1/models, whose owner mostly tells the program; if not:
    /version         a node of ours: not to be attached, it would offer our own models to us
    /api/v0/models   LM Studio
    /api/tags        Ollama
then what that program says besides (`model_list.py`)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import trio

from ledger.records import Capability
from node.attached.dialect import LLAMA_CPP_PYTHON, LLAMA_SERVER, LM_STUDIO, OLLAMA, OTHER, VLLM, Dialect
from node.attached.error_answer import KEY_ADVICE, error_in, message_of
from node.attached.errors import BadAnswer, StillLoading, Unusable
from node.attached.json_fields import JsonFields, parse_json
from node.attached.model_list import (
    Survey,
    ids_of,
    listed_models,
    llama_server_models,
    lm_studio_models,
    ollama_capabilities,
    ollama_loaded,
    ollama_models,
    owners_in,
    survey_of,
)
from node.attached.request_body import Body
from node.attached.server_client import ServerClient
from node.attached.server_url import ServerUrl

_BY_OWNER = {"llamacpp": LLAMA_SERVER, "vllm": VLLM, "me": LLAMA_CPP_PYTHON}

_OWN = "localai-node"

_CONTRADICTION: Body = {
    "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
    "continue_final_message": "content",
    "add_generation_prompt": True,
}
"""To go on in the last message, and to begin another one. A llama-server refuses it that knows the first of
these in this form, which came (in May 2026) with sending nothing but what is new: older ones begin another
message, or may say again what they go on from."""

_SLOTS_MAX = 4096
"""A server that says it has more is not to be believed, and would not be kept busy by a home."""


async def look_once(url: ServerUrl, key: str, *, timeout: float) -> Survey:
    """What the server at `url` is and has, for who does not stay.

    Raises:
      Unusable, BadAnswer: as `Surveyor.look`.
    """
    try:
        with trio.fail_after(timeout):
            async with ServerClient(url, key) as client:
                return await Surveyor(client).look()
    except trio.TooSlowError as error:
        raise Unusable(f"the server at {url} does not answer within {timeout:g} s; restart it") from error


class Surveyor:
    """Looks at one server, again and again."""

    def __init__(self, client: ServerClient) -> None:
        self._client = client
        self._found: Survey | None = None
        self._capabilities: dict[str, tuple[Capability, ...]] = {}
        """Of Ollama's models, by id: each is asked about once."""
        self._goes_on: bool | None = None
        """Whether a llama-server goes on in the last message of a chat; None: it was not asked yet."""

    def forget(self) -> None:
        """What was there may be another program when it answers again."""
        self._found = None
        self._capabilities = {}
        self._goes_on = None

    async def look(self) -> Survey:
        """What the server is and has now. Bound it with a timeout.

        Raises:
          Unusable: nobody is there, or nothing that could be used; says what to do.
          BadAnswer: its answers cannot be read.
        """
        if self._found is not None and await self._is_as_before(self._found):
            return self._found
        listing = await self._ask("/v1/models")
        self._found = await self._survey(await self._identify(listing), listing)
        return self._found

    async def _is_as_before(self, found: Survey) -> bool:
        """Of a server that must not be asked for its models: whether it is still that server."""
        path = found.dialect.alive_path
        # It has no such path and says so; another program on this port would.
        return bool(path) and (await self._client.ask(path)).status == 404

    async def _identify(self, listing: JsonFields) -> Dialect:
        owners = owners_in(listing)
        if _OWN in owners:
            raise self._own_kind()
        named = [dialect for owner, dialect in _BY_OWNER.items() if owner in owners]
        if named:
            return named[0]
        if self._found is not None:
            # Found out before, with questions that some servers log as mistakes.
            return self._found.dialect
        version = await self._ask_maybe("/version")
        if version is not None and version.raw("name") == _OWN:
            raise self._own_kind()
        listed = await self._ask_maybe("/api/v0/models")
        if listed is not None and any("type" in row for row in listed.rows("data")):
            return LM_STUDIO
        tags = await self._ask_maybe("/api/tags")
        return OLLAMA if tags is not None and isinstance(tags.raw("models"), list) else OTHER

    def _own_kind(self) -> Unusable:
        return Unusable(f"{self._client.url} is a localai-node itself: join its swarm with a token instead")

    async def _survey(self, dialect: Dialect, listing: JsonFields) -> Survey:
        models = listed_models(listing)
        match dialect.name:
            case LLAMA_SERVER.name:
                dialect = replace(dialect, goes_on_with_chats=await self._learn_whether_it_goes_on())
                props = await self._ask_maybe("/props")
                if props is None:
                    return survey_of(dialect, models)
                slots = min(props.count("total_slots"), _SLOTS_MAX) or None
                return survey_of(dialect, llama_server_models(models, props), slots)
            case LM_STUDIO.name:
                return survey_of(dialect, lm_studio_models(await self._ask("/api/v0/models")))
            case OLLAMA.name:
                await self._learn_capabilities(ids_of(models))
                loaded = ollama_loaded(await self._ask("/api/ps"))
                return survey_of(dialect, ollama_models(models, loaded, self._capabilities))
            case _:
                return survey_of(dialect, models)

    async def _learn_whether_it_goes_on(self) -> bool:
        """Have llama-server make a prompt of what contradicts itself, once: its template is not run."""
        if self._goes_on is None:
            reply = await self._client.ask("/apply-template", _CONTRADICTION)
            words = message_of(error_in(reply.body))
            self._goes_on = reply.status == 400 and "continue_final_message" in words
        return self._goes_on

    async def _learn_capabilities(self, ids: Sequence[str]) -> None:
        """Ask Ollama about those of `ids` that it was not asked about yet, and forget all others."""
        self._capabilities = {id_: self._capabilities[id_] for id_ in ids if id_ in self._capabilities}
        for id_ in ids:
            if id_ not in self._capabilities:
                shown = await self._ask_maybe("/api/show", {"model": id_})
                if shown is not None:
                    self._capabilities[id_] = ollama_capabilities(shown)

    async def _ask(self, path: str) -> JsonFields:
        reply = await self._client.ask(path)
        url = self._client.url
        if reply.status == 200:
            return JsonFields(parse_json(reply.body), f"answer to {path}")
        if reply.status in (401, 403):
            raise Unusable(f"{url} wants an API key; {KEY_ADVICE}")
        words = message_of(error_in(reply.body))
        if reply.status == 503 and "loading" in words.lower():
            raise StillLoading(f"the server at {url} is loading its model")
        if reply.status == 404:
            raise Unusable(
                f"{url} has no {path}: it is no OpenAI-compatible server, or that is under another path"
            )
        raise Unusable(f"{url} answers {path} with status {reply.status} {words}".rstrip())

    async def _ask_maybe(self, path: str, body: Body | None = None) -> JsonFields | None:
        """The answer, if the server has such a question."""
        reply = await self._client.ask(path, body)
        if reply.status != 200:
            return None
        try:
            return JsonFields(parse_json(reply.body), f"answer to {path}")
        except BadAnswer:
            return None  # A page for people, mostly.
