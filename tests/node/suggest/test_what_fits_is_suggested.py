"""Nothing is suggested that does not fit, in one order, with the numbers that it follows from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.records import Load, ModelName, ModelRecord
from ledger.view import NodeView
from node.hardware import MODELS_MEMORY, memory_for_models
from node.models.memory_estimate import guess_memory
from node.sources.gallery_index import GalleryEntry, GalleryFile
from node.suggest.advice_map import advice_map, models_map
from node.suggest.advice_text import render_advice, render_models
from node.suggest.machine import Machine, Measured, machine_of
from node.suggest.suggest import READING_SPEED, Advice, advise
from p2p.peer import PeerId

unhurried = settings(deadline=None)

GIB = 2**30
SHA256 = "ab" * 32


def entry(
    name: str, size: str = "", *, file: str = "m.gguf", sha256: str = "", tags: tuple[str, ...] = ()
) -> GalleryEntry:
    files = (GalleryFile(file, "https://example.org/m", sha256),)
    return GalleryEntry("home", name, files=files, size=size, tags=tags)


def machine(name: str = "attic", gib: float = 16, **more: Any) -> Machine:
    return Machine(name, round(gib * GIB), **more)


def record(name: str, size_bytes: int = 0, **more: Any) -> ModelRecord:
    return ModelRecord(ModelName(name), "loaded", size_bytes=size_bytes, **more)


def names(advice: Advice) -> list[str]:
    return [suggestion.entry.name for suggestion in advice.suggestions]


def reasons(advice: Advice) -> str:
    (suggestion,) = advice.suggestions
    return "\n".join(suggestion.reasons)


sizes = st.integers(1, 2_000_000).map(lambda megabytes: f"{megabytes}MB")
entries = st.lists(sizes | st.just(""), max_size=8).map(
    lambda listed: [entry(f"m{number}", size) for number, size in enumerate(listed)]
)
speeds = st.floats(0.01, 1000)
machines = st.lists(
    st.builds(
        Machine,
        st.sampled_from(["attic", "cellar", "desk"]),
        st.integers(0, 256 * GIB),
        used_bytes=st.integers(0, 256 * GIB),
        is_self=st.booleans(),
        device_bytes=st.none() | st.lists(st.integers(0, 48 * GIB), max_size=2).map(tuple),
        disk_bytes=st.none() | st.integers(0, 10**12),
        measured=st.lists(
            st.builds(Measured, st.sampled_from("xy"), st.integers(1, 10**12), speeds), max_size=2
        ).map(tuple),
    ),
    max_size=3,
)


@unhurried
@given(entries, machines)
def test_nothing_is_suggested_that_does_not_fit(listed: list[GalleryEntry], there: list[Machine]) -> None:
    advice = advise(listed, there, "chat")
    for suggestion in advice.suggestions:
        assert suggestion.places
        for place in suggestion.places:
            needed = guess_memory(suggestion.size.size_bytes).total
            device = sum(place.machine.device_bytes or ())
            assert needed <= place.machine.budget_bytes or needed <= device + 60 * 2**20
            assert place.machine.disk_bytes is None or suggestion.size.size_bytes <= place.machine.disk_bytes


@unhurried
@given(entries, machines)
def test_each_model_is_told_once_and_none_is_lost(listed: list[GalleryEntry], there: list[Machine]) -> None:
    advice = advise(listed, there, "chat")
    told = [*names(advice), *(unfit.entry.name for unfit in (*advice.too_large, *advice.unknown))]
    assert sorted(told) == sorted(each.name for each in listed)
    assert {unfit.entry.name for unfit in advice.unknown} == {each.name for each in listed if not each.size}


@unhurried
@given(entries, machines)
def test_the_readable_come_first_and_the_largest_of_them(
    listed: list[GalleryEntry], there: list[Machine]
) -> None:
    def rank(speed: float | None) -> int:
        return 1 if speed is None else 0 if speed >= READING_SPEED else 2

    suggestions = advise(listed, there, "chat").suggestions
    ranks = [rank(each.best.speed) for each in suggestions]
    assert ranks == sorted(ranks)
    for former, latter, group in zip(suggestions, suggestions[1:], ranks, strict=False):
        if group == rank(latter.best.speed):
            if group == 2:
                assert former.best.speed >= latter.best.speed  # type: ignore[operator]
            else:
                assert former.size.size_bytes >= latter.size.size_bytes


@unhurried
@given(entries, machines, st.randoms(use_true_random=False))
def test_the_order_of_the_gallery_is_not_the_order_of_suggestions(
    listed: list[GalleryEntry], there: list[Machine], random: Any
) -> None:
    shuffled = list(listed)
    random.shuffle(shuffled)
    assert names(advise(shuffled, there, "chat")) == names(advise(listed, there, "chat"))


@unhurried
@given(sizes, machines)
def test_the_best_place_is_the_fastest(size: str, there: list[Machine]) -> None:
    for suggestion in advise([entry("m", size)], there, "chat").suggestions:
        fastest = max((place.speed or 0) for place in suggestion.places)
        assert (suggestion.best.speed or 0) == fastest


@unhurried
@given(entries, machines)
def test_whatever_there_is_can_be_shown(listed: list[GalleryEntry], there: list[Machine]) -> None:
    advice = advise(listed, there, "chat")
    for is_all in (False, True):
        shown = advice_map(advice, "chat", is_all=is_all)
        text = render_advice(shown)
        assert all(row["name"] in text for row in shown["suggestions"])
        assert len(shown["suggestions"]) <= shown["counts"]["suggestions"]
        assert is_all or not shown["too_large"]


def test_of_those_too_slow_to_read_along_the_faster_come_first_and_unknown_ones_before_them() -> None:
    slow = machine("slow", 16, measured=(Measured("tiny", 10**9, 4.0),))
    unmeasured = machine("new", 64)
    listed = [entry("large", "8GB"), entry("larger", "10GB"), entry("small", "700MB"), entry("huge", "40GB")]
    assert names(advise(listed, [slow, unmeasured], "chat")) == ["small", "huge", "large", "larger"]


def test_the_speed_is_that_of_the_measured_model_by_the_weights() -> None:
    there = machine(measured=(Measured("tiny", 100_000_000, 70.0),))
    advice = advise([entry("m", "700MB")], [there], "chat")
    assert advice.suggestions[0].best.speed == 10.0
    assert "measured with tiny on attic: 70 tokens/s at 100.0 MB -> about 10 tokens/s" in reasons(advice)


def test_where_nothing_was_measured_there_is_no_number() -> None:
    advice = advise([entry("m", "700MB")], [machine()], "chat")
    assert advice.suggestions[0].best.speed is None
    assert "no speed was measured on attic yet" in reasons(advice)
    assert "tokens/s" not in render_advice(advice_map(advice, "chat", is_all=True))


def test_the_model_of_the_nearest_size_counts() -> None:
    measured = (Measured("tiny", 100_000_000, 50.0), Measured("big", 4_000_000_000, 4.0))
    advice = advise([entry("m", "2GB")], [machine(measured=measured)], "chat")
    assert advice.suggestions[0].best.speed == 8.0
    assert "measured with big" in reasons(advice)


def test_a_mixture_of_experts_reads_what_is_active() -> None:
    there = machine(gib=64, measured=(Measured("dense", 1_800_000_000, 10.0),))
    advice = advise([entry("m", "18GB", file="m-30B-A3B-Q4_K_M.gguf")], [there], "chat")
    assert advice.suggestions[0].best.speed == 10.0
    assert "a mixture of experts: a token reads 3B of its 30B" in reasons(advice)


def test_a_measured_mixture_is_believed_by_what_it_reads() -> None:
    there = machine(gib=64, measured=(Measured("m-30B-A3B", 18_000_000_000, 10.0, share=0.1),))
    advice = advise([entry("m", "1.8GB")], [there], "chat")
    assert advice.suggestions[0].best.speed == 10.0
    assert "10 tokens/s at 1.8 GB a token" in reasons(advice)


def test_what_was_measured_itself_is_no_estimate() -> None:
    there = machine(records=(record("m", 500_000_000),), measured=(Measured("m", 500_000_000, 21.0),))
    advice = advise([entry("m")], [there], "chat")
    assert advice.suggestions[0].best.speed == 21.0
    assert "measured with m on attic: 21 tokens/s at 500.0 MB" in reasons(advice)
    assert "->" not in reasons(advice)


def test_vectors_have_no_speed_of_tokens() -> None:
    there = machine(measured=(Measured("tiny", 100_000_000, 70.0),))
    advice = advise([entry("m", "700MB", tags=("embeddings",))], [there], "embeddings")
    assert advice.suggestions[0].best.speed is None
    assert "measured" not in reasons(advice)


def test_a_model_that_a_node_has_is_known_by_its_file() -> None:
    other = machine("cellar", records=(record("theirs", 3_000_000_000, sha256=SHA256),))
    advice = advise([entry("m", "1MB", sha256=SHA256)], [machine(), other], "chat")
    (suggestion,) = advice.suggestions
    assert suggestion.size.size_bytes == 3_000_000_000, "what is there is better known than what is said"
    assert (suggestion.holders, suggestion.best.machine.name) == (("cellar",), "cellar")
    assert "3.0 GB, as cellar has it" in reasons(advice)
    assert "already on cellar: it can be asked for now" in reasons(advice)


def test_another_file_of_that_name_is_another_model() -> None:
    other = machine("cellar", records=(record("m", 3_000_000_000, sha256="cd" * 32),))
    advice = advise([entry("m", "1GB", sha256=SHA256)], [other], "chat")
    assert advice.suggestions[0].holders == ()
    assert advice.suggestions[0].size.size_bytes == 1_000_000_000


def test_without_a_node_nothing_can_be_asked_for_now() -> None:
    there = machine(is_running=False, records=(record("m", 500_000_000),))
    assert "it can be asked for once a node runs" in reasons(advise([entry("m")], [there], "chat"))


def test_what_does_not_fit_says_what_there_is() -> None:
    advice = advise(
        [entry("m", "40GB")], [machine("attic", 16), machine("cellar", 8), machine("desk", 0)], "chat"
    )
    assert advice.suggestions == ()
    needed = guess_memory(40_000_000_000).total / GIB
    assert advice.too_large[0].reason == (
        f"40.0 GB, as its gallery says; takes about {needed:.2f} GiB, and attic has 16.00 GiB for models,"
        " cellar has 8.00 GiB for models, desk does not say how much memory it has"
    )


def test_a_full_disk_is_named_and_matters_to_who_lacks_the_model_only() -> None:
    full = machine(disk_bytes=1_000_000)
    assert "attic has 1.0 MB of disk left" in advise([entry("m", "1GB")], [full], "chat").too_large[0].reason
    has_it = machine(disk_bytes=1_000_000, records=(record("m", 10**9),))
    assert names(advise([entry("m", "1GB")], [has_it], "chat")) == ["m"]


def test_a_gpu_that_takes_it_whole_is_enough() -> None:
    there = machine(gib=4, gpus=("RTX",), device_bytes=(24 * GIB,))
    assert "its GPU has 24.00 GiB free" in reasons(advise([entry("m", "10GB")], [there], "chat"))


def test_a_gpu_of_another_node_is_not_guessed_about() -> None:
    there = machine(gpus=("RTX",), measured=(Measured("tiny", 10**8, 100.0),))
    text = reasons(advise([entry("m", "1GB")], [there], "chat"))
    assert "how much of it its GPU (RTX) takes is not known here" in text
    assert "-> about 10 tokens/s, if as much of it fits the GPU" in text


def test_models_that_others_use_make_room() -> None:
    there = machine(gib=16, used_bytes=14 * GIB)
    text = reasons(advise([entry("m", "4GB")], [there], "chat"))
    assert "of the 16.00 GiB that models may have, 2.00 GiB are free, so others make room" in text


def test_of_two_galleries_the_first_counts_as_when_it_is_pulled() -> None:
    advice = advise([entry("m", "1GB"), entry("M", "2GB")], [machine()], "chat")
    assert [each.size.size_bytes for each in advice.suggestions] == [1_000_000_000]


def node(state: str = "online", role: str = "worker", hardware: Mapping[str, Any] | None = None) -> NodeView:
    loads = {
        ModelName("tiny"): Load(4, 0, decode_speed=70.0, is_loaded=True),
        ModelName("idle"): Load(4, 0),
        ModelName("theirs"): Load(4, 0, decode_speed=30.0),
    }
    return NodeView(
        PeerId("attic-id"),
        "attic",
        state,  # type: ignore[arg-type]
        role,  # type: ignore[arg-type]
        "0.1.0",
        models=(
            record("tiny", 98_000_000),
            record("idle", 50_000_000),
            record("theirs", 10**9, program="ollama"),
            ModelRecord(ModelName("coming"), "fetching", size_bytes=10**9),
        ),
        loads=loads,
        hardware={"memory_bytes": 32 * GIB, "gpu": ["RTX"]} if hardware is None else hardware,
    )


def test_a_machine_is_what_its_node_says() -> None:
    found = machine_of(node(), "attic")
    assert found is not None
    assert found.measured == (Measured("tiny", 98_000_000, 70.0),)
    assert found.budget_bytes == memory_for_models(32 * GIB)
    assert found.used_bytes == guess_memory(98_000_000).total + guess_memory(50_000_000).total
    assert [each.name for each in found.records] == ["tiny", "idle", "theirs"]
    assert (found.gpus, found.device_bytes) == (("RTX",), None)


def test_what_its_owner_gives_models_counts_before_what_memory_there_is() -> None:
    found = machine_of(node(hardware={"memory_bytes": 32 * GIB, MODELS_MEMORY: 3 * GIB}), "attic")
    assert found is not None
    assert found.budget_bytes == 3 * GIB


def test_who_is_away_or_runs_nothing_is_no_machine() -> None:
    assert machine_of(node(state="offline"), "attic") is None
    assert machine_of(node(state="draining"), "attic") is None
    assert machine_of(node(role="front"), "attic") is None


def test_what_others_say_of_their_hardware_may_be_nonsense() -> None:
    for hardware in (
        {},
        {MODELS_MEMORY: -1},
        {"memory_bytes": "much", "gpu": "RTX"},
        {"memory_bytes": -1, "gpu": [7, None]},
    ):
        found = machine_of(node(hardware=hardware), "attic")
        assert found is not None
        assert (found.budget_bytes, found.gpus) == (0, ())


def test_without_all_only_the_best_are_shown_and_the_rest_counted() -> None:
    listed = [entry(f"m{number:02}", f"{number + 1}GB") for number in range(40)] + [entry("unsized")]
    advice = advise(listed, [machine()], "chat")
    text = render_advice(advice_map(advice, "chat", is_all=False))
    fitting = len(advice.suggestions)
    assert (
        f"not shown: {fitting - 10} more that fit, {40 - fitting} too large for every machine, 1 of unknown"
        in text
    )
    everything = render_advice(advice_map(advice, "chat", is_all=True))
    assert "not shown" not in everything
    assert all(each.name in everything for each in listed)


def test_models_are_found_by_all_words_and_by_their_names_first() -> None:
    listed = [entry("b", tags=("tiny", "code")), entry("tiny-code"), entry("c", tags=("code",))]
    there = [machine(records=(record("tiny-code"),))]
    found = models_map(listed, there, "Tiny CODE")
    assert [row["name"] for row in found["models"]] == ["tiny-code", "b"]
    assert render_models(found) == "tiny-code  no licence stated  on attic\nb  no licence stated  tiny, code"


def test_names_from_elsewhere_do_not_reach_the_terminal_as_they_are() -> None:
    there = [machine("attic\x1b[2J")]
    text = render_advice(advice_map(advise([entry("m", "1GB")], there, "chat"), "chat", is_all=True))
    assert not re.search(r"[^\n\x20-\x7e]", text)


def test_a_machine_that_has_a_model_under_two_names_is_named_once() -> None:
    twice = machine("attic", records=tuple(record(name, GIB, sha256=SHA256) for name in ("a", "b")))
    listed = entry("m", sha256=SHA256)
    (row,) = models_map([listed], [twice, machine("cellar", records=twice.records)], "")["models"]
    assert row["holders"] == ["attic", "cellar"]
