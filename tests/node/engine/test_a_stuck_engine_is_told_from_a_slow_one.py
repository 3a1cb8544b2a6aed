"""The watchdog: what is slow or has nothing to do goes on, what is stuck or too large is ended."""

from __future__ import annotations

from collections.abc import Sequence

from node.engine.watchdog import Ask, End, Heard, Ticked, Watchdog, WatchdogConfig
from node.engine.wire import FromChild, Loaded, Loading, ModelFacts, Piece, Pong, Ready

FACTS = ModelFacts(4096, 49152, None, "<s>", "</s>", (), ())
CONFIG = WatchdogConfig(starting=300.0, working=60.0)


class Watch:
    """A watchdog, and the clock that it is told of."""

    def __init__(self, *, memory_max: int = 0) -> None:
        self.watchdog = Watchdog(CONFIG, memory_max)
        self.now = 1000.0
        self.tick(has_work=False)

    def hear(self, *messages: FromChild) -> None:
        for message in messages:
            assert self.watchdog.handle(Heard(message), self.now) is None

    def tick(self, *, after: float = 1.0, has_work: bool = True, memory: int = 0) -> Ask | End | None:
        self.now += after
        return self.watchdog.handle(Ticked(has_work, memory), self.now)

    def seconds_until_end(self, says: Sequence[FromChild] = ()) -> tuple[int, End]:
        for second in range(1, 10_000):
            match self.tick():
                case End() as end:
                    return second, end
            self.hear(*says)
        raise AssertionError("it was never ended")


def ready(step_seconds: float = 0.4, size_bytes: int = 0) -> Watch:
    watch = Watch()
    watch.hear(Loading(0.5), Loaded(FACTS, size_bytes), Ready(step_seconds))
    return watch


def test_an_engine_that_answers_is_never_ended() -> None:
    watch = ready()
    for _ in range(1000):
        assert watch.tick() == Ask()
        watch.hear(Pong())


def test_an_engine_without_work_owes_nothing() -> None:
    watch = ready()
    assert all(watch.tick(has_work=False) is None for _ in range(1000))


def test_an_engine_that_owes_an_answer_and_says_nothing_is_stuck() -> None:
    seconds, end = ready().seconds_until_end()
    # It is asked in the first one.
    assert seconds == 61
    assert end == End("was stuck: it said nothing for 60 s while it had work", "stuck")


def test_an_engine_that_was_asked_owes_the_answer_even_if_who_wanted_it_left() -> None:
    watch = ready()
    assert watch.tick() == Ask()
    ticks = [watch.tick(has_work=False) for _ in range(60)]
    assert ticks[:-1] == [None] * 59
    assert isinstance(ticks[-1], End)


def test_whatever_it_says_shows_that_it_lives() -> None:
    watch = ready()
    assert watch.tick() == Ask()
    for _ in range(1000):
        watch.hear(Piece(1, 0, (7,), "a"))
        assert watch.tick() is None


def test_a_slow_machine_and_a_large_file_are_given_longer() -> None:
    assert ready(step_seconds=50.0).seconds_until_end()[0] == 151
    assert ready(size_bytes=4_000_000_000).seconds_until_end()[0] == 101


def test_a_load_that_gets_on_is_never_ended() -> None:
    watch = Watch()
    for second in range(10_000):
        watch.hear(*[Loading(second / 10_000)] * (second % 299 == 0))
        assert watch.tick() is None


def test_a_load_that_stands_still_is_stuck() -> None:
    watch = Watch()
    watch.hear(Loading(0.5))
    seconds, end = watch.seconds_until_end()
    assert seconds == 300
    assert end == End("was stuck: it said nothing for 300 s while it was starting", "stuck")


def test_the_self_test_may_take_as_long_as_its_weights_need_from_a_network_drive() -> None:
    watch = Watch()
    watch.hear(Loaded(FACTS, 8_000_000_000))
    assert watch.seconds_until_end()[0] == 1100


def test_time_that_was_not_watched_does_not_count() -> None:
    watch = ready()
    assert watch.tick() == Ask()
    # The machine slept for a day; then the answer is still on its way.
    assert watch.tick(after=86_400.0) is None
    assert [watch.tick() for _ in range(58)][-1] is not None


def test_memory_counts_at_any_time() -> None:
    for watch in (Watch(memory_max=2**31), Watch(memory_max=2**31)):
        assert watch.tick(has_work=False, memory=2**31) is None
        end = watch.tick(has_work=False, memory=2**31 + 1)
        assert end == End("needed more memory than 2.00 GiB (--engine-memory)", "too_large")


def test_without_a_limit_memory_is_nobodys_business() -> None:
    assert Watch().tick(memory=2**50) is None
