"""What prefix went where."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from federation.affinity import Affinity
from federation.backend import InferenceRequest, RequestId
from federation.prefix import Prefix, prefix_of
from ledger.records import ModelName
from p2p.peer import PeerId

TINY = ModelName("tiny")
A, B = PeerId("a"), PeerId("b")


def chat(*contents: str, tools: tuple[dict[str, str], ...] = ()) -> Prefix:
    messages = [{"role": "user", "content": content} for content in contents]
    return prefix_of(InferenceRequest("chat", RequestId("r"), TINY, messages=messages, tools=tools))


def completion(prompt: str | list[int]) -> Prefix:
    return prefix_of(InferenceRequest("completion", RequestId("r"), TINY, prompt=prompt))


@given(st.text(max_size=3000), st.text(max_size=600), st.text(max_size=600))
def test_prompts_share_the_windows_that_are_alike_and_no_other(same: str, one: str, other: str) -> None:
    ours, theirs = (same + one).encode(), (same + other).encode()
    alike = next(
        (at for at, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
        min(len(ours), len(theirs)),
    )
    keys = [completion(same + one).keys, completion(same + other).keys]
    shared = sum(a == b for a, b in zip(*keys, strict=False))
    assert shared == alike // 256
    assert keys[0][:shared] == keys[1][:shared]


@given(st.lists(st.text(max_size=700), max_size=5), st.text(max_size=500))
def test_a_conversation_that_goes_on_begins_as_before(contents: list[str], more: str) -> None:
    before, after = chat(*contents), chat(*contents, more)
    assert after.keys[: len(before.keys)] == before.keys


def test_tools_and_token_ids_are_part_of_it() -> None:
    assert chat("x" * 600) != chat("x" * 600, tools=({"name": "look"},))
    ids = completion(list(range(200)))
    assert (len(ids.keys), ids.ids, ids.characters) == (3, 200, 0)
    assert completion([*range(199), 7]).keys == ids.keys
    assert completion([9, *range(1, 200)]).keys != ids.keys


@given(st.integers(0, 200_000))
def test_a_prompt_has_a_bounded_number_of_windows_that_are_not_more_than_all_of_it(size: int) -> None:
    prefix = completion("x" * size)
    assert len(prefix.keys) == min(size // 256, 256)
    assert len(prefix.keys) * prefix.window_share <= 1


def test_who_read_the_beginning_is_thought_to_have_it_for_that_model_only() -> None:
    affinity = Affinity()
    affinity.read(A, TINY, chat("system" * 100))
    longer = chat("system" * 100, "question" * 100)
    assert 0.2 < affinity.cached_share(A, TINY, longer) < 0.5
    assert affinity.cached_share(A, ModelName("large"), longer) == 0
    assert affinity.cached_share(B, TINY, longer) == 0
    assert affinity.cached_share(A, TINY, chat("else" * 200)) == 0


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 10_000)), max_size=20))
def test_trust_follows_what_was_found_and_stays_a_share(answers: list[tuple[int, int]]) -> None:
    affinity, prefix = Affinity(), completion("x" * 2560)
    affinity.read(A, TINY, prefix)
    for prompt, cached in answers:
        affinity.answered(A, TINY, 1.0, prompt, cached)
        assert 0 <= affinity.cached_share(A, TINY, prefix) <= 1


def test_a_peer_that_keeps_nothing_stops_drawing_and_one_that_does_draws_again() -> None:
    affinity, prefix = Affinity(), completion("x" * 2560)
    affinity.read(A, TINY, prefix)
    for _ in range(3):
        affinity.answered(A, TINY, 1.0, prompt_tokens=600, cached_tokens=0)
    assert affinity.cached_share(A, TINY, prefix) < 0.4
    for _ in range(6):
        affinity.answered(A, TINY, 1.0, prompt_tokens=600, cached_tokens=599)
    assert affinity.cached_share(A, TINY, prefix) > 0.9


def test_an_answer_of_which_nothing_was_expected_says_nothing() -> None:
    affinity, prefix = Affinity(), completion("x" * 2560)
    affinity.answered(A, TINY, 0.0, prompt_tokens=600, cached_tokens=0)
    affinity.read(A, TINY, prefix)
    assert affinity.cached_share(A, TINY, prefix) == 1.0
