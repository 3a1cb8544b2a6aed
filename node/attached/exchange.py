"""One request to a server, carried out by a task of its own.

    infer --starts--> [ Exchange.run ] --- HTTP ---> server
      ^                     |
      +------- channel -----+      events, Done last; or the error that ended it

The channel is short: a client that does not read keeps us from reading, and TCP the server from
sending. Cancelling the task closes the connection, which is how a server is told to stop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import httpx
import trio

from federation.backend import AnswerEvent, Chunk, Done, InferenceRequest, Progress, Timings, Usage
from federation.errors import BadRequest, Failed, FederationError, Refused
from ledger.records import Load
from node.attached.answer_stream import END, AnswerStream
from node.attached.dialect import Dialect
from node.attached.error_answer import error_in_stream, error_of
from node.attached.errors import BadAnswer, ErrorEvent, Unusable
from node.attached.lookup_answer import read_lookup, read_scores, read_vectors
from node.attached.request_body import Question, lookup_question, text_question, vector_questions
from node.attached.server_client import ServerClient, read_whole
from node.attached.sse import SseDecoder
from node.http_client import pieces_of

Said: TypeAlias = AnswerEvent | FederationError

UNREAD_MAX = 32
"""Events between the connection and who reads them; a few tokens' worth of a fast server's sends."""


@dataclass(slots=True)
class _Stopwatch:
    """When the first content came, and the last: seconds of trio's clock."""

    asked_at: float
    first_at: float | None = None

    def note(self, event: Chunk | Progress) -> None:
        if isinstance(event, Chunk) and self.first_at is None:
            self.first_at = trio.current_time()

    def timings(self) -> Timings:
        """Waiting in the server's own queue looks like reading the prompt from here."""
        now = trio.current_time()
        first_at = now if self.first_at is None else self.first_at
        return Timings(0.0, first_at - self.asked_at, now - first_at)


class Exchange:
    """What one request asks of a server. Making it checks the request; one task `run`s it."""

    def __init__(
        self,
        client: ServerClient,
        request: InferenceRequest,
        model: str,
        dialect: Dialect,
        load: Callable[[], Load | None],
    ) -> None:
        """`model`: as the server calls it. `load`: how busy it is, for a refusal.

        Raises:
          BadRequest: the server does not take something of it; names the parameter.
        """
        self._client = client
        self._request = request
        self._server = f"{dialect.name} at {client.url}"
        self._load = load
        self._dialect = dialect
        match request.kind:
            case "chat" | "completion":
                self._questions = iter([text_question(request, model, dialect)])
            case "embeddings" | "rerank":
                self._questions = vector_questions(request, model, dialect)
            case "tokenize" | "detokenize":
                self._questions = iter([lookup_question(request, model, dialect)])

    async def run(self, said: trio.MemorySendChannel[Said]) -> None:
        """Ask, and send all that comes of it. Cancelled: the connection is closed, and the channel."""
        async with said:
            try:
                if self._request.kind in ("chat", "completion"):
                    [question] = self._questions
                    await self._stream(question, said)
                else:
                    await self._look_up(said)
            except Unusable as error:
                await said.send(Refused("model_failed", str(error)))
            except BadAnswer as error:
                await said.send(Failed(f"{self._server}: {error}"))
            except ErrorEvent as event:
                await said.send(error_in_stream(event.error, self._request, self._server, self._load()))
            except (BadRequest, Refused, Failed) as error:
                await said.send(error)

    async def _stream(self, question: Question, said: trio.MemorySendChannel[Said]) -> None:
        reader = AnswerStream(self._request, counts_each_choice=self._dialect.counts_each_choice)
        watch = _Stopwatch(trio.current_time())
        async with self._client.open(question.path, question.body) as response:
            if response.status_code != httpx.codes.OK:
                raise self._error(response.status_code, await read_whole(response))
            for chunk in reader.opening():
                await said.send(chunk)
            if response.headers.get("content-type", "").startswith("application/json"):
                # It does not stream, whatever it was asked.
                for event in reader.read((await read_whole(response)).decode(errors="replace")):
                    await said.send(event)
            else:
                await self._read_events(response, reader, watch, said)
        await said.send(reader.done(watch.timings()))

    async def _read_events(
        self,
        response: httpx.Response,
        reader: AnswerStream,
        watch: _Stopwatch,
        said: trio.MemorySendChannel[Said],
    ) -> None:
        decoder = SseDecoder()
        async with pieces_of(response) as pieces:
            async for piece in pieces:
                for data in decoder.feed(piece):
                    if data == END:
                        return
                    for event in reader.read(data):
                        watch.note(event)
                        await said.send(event)
        for data in decoder.finish():
            if data != END:
                for event in reader.read(data):
                    await said.send(event)

    async def _look_up(self, said: trio.MemorySendChannel[Said]) -> None:
        asked_at, tokens = trio.current_time(), 0
        for question in self._questions:
            reply = await self._client.ask(question.path, question.body)
            if reply.status != httpx.codes.OK:
                raise self._error(reply.status, reply.body)
            match self._request.kind:
                case "embeddings":
                    chunks, count = read_vectors(reply.body, question)
                case "rerank":
                    chunks, count = read_scores(reply.body, question)
                case _:
                    chunks = [read_lookup(reply.body, self._request)]
                    count = len(chunks[0].token_ids)
            tokens += count
            for chunk in chunks:
                await said.send(chunk)
        took = trio.current_time() - asked_at
        await said.send(Done((), Usage(tokens, 0), Timings(0.0, took, 0.0)))

    def _error(self, status: int, body: bytes) -> FederationError:
        return error_of(status, body, self._request, self._server, self._load())
