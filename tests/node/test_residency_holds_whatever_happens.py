"""Whatever happens in whatever order: nobody who is in use goes, nothing is needless, nobody starves."""

from __future__ import annotations

from collections import Counter

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from node.residency import (
    Added,
    Admit,
    Asked,
    Dismissed,
    Event,
    Failed,
    Gone,
    Left,
    Load,
    Loaded,
    Refuse,
    Residency,
    ResidencyConfig,
    TimePassed,
    Unload,
    Wanted,
)

KEYS = tuple("abcde")
BUDGET = 10
PATIENCE = 5.0
keys = st.sampled_from(KEYS)


class Machine(RuleBasedStateMachine):
    """The machine that the effects are carried out on."""

    @initialize(sizes=st.lists(st.integers(1, 12), min_size=5, max_size=5), pinned=st.sets(keys, max_size=1))
    def start(self, sizes: list[int], pinned: set[str]) -> None:
        self.residency = Residency[str](ResidencyConfig(BUDGET, PATIENCE))
        self.now = 0.0
        self.sizes = dict(zip(KEYS, sizes, strict=True))
        self.pinned = pinned
        self.dismissed: set[str] = set()
        self.state = dict.fromkeys(KEYS, "absent")
        self.running: Counter[str] = Counter()
        self.waiting: Counter[str] = Counter()
        self.since: dict[str, int] = {}
        """The order in which models began to be waited for."""
        self.asked = 0
        for key in KEYS:
            self.tell(Added(key, self.sizes[key], is_pinned=key in pinned))

    def tell(self, event: Event[str]) -> set[str]:
        """Carry out what follows from `event`; returns whose waiting came to an end."""
        served = set()
        unloaded = []
        for effect in self.residency.handle(event, self.now):
            match effect:
                case Unload(key):
                    assert self.state[key] in ("loading", "loaded") or (
                        self.state[key] == "failed" and key in self.dismissed
                    )
                    assert not self.running[key], "it is in use"
                    assert key not in self.pinned or key in self.dismissed, "it is pinned"
                    self.state[key] = "leaving"
                    unloaded.append(key)
                case Load(key):
                    assert self.state[key] == "absent"
                    self.state[key] = "loading"
                    assert self.total("loading", "loaded", "leaving") <= BUDGET
                case Admit(key):
                    assert self.state[key] in ("loading", "loaded")
                    self.running[key] += self.waiting.pop(key)
                    served.add(key)
                case Refuse(key):
                    others = sum(self.sizes[other] for other in self.pinned if other != key)
                    assert self.state[key] == "failed" or self.sizes[key] + others > BUDGET, "it fits"
                    del self.waiting[key]
                    served.add(key)
        self.require_needed([key for key in unloaded if key not in self.dismissed])
        return served

    def total(self, *states: str) -> int:
        return sum(self.sizes[key] for key in KEYS if self.state[key] in states)

    def require_needed(self, victims: list[str]) -> None:
        """Beside any one of them, who waits first could not have been loaded."""
        waiting = [key for key in self.waiting if self.state[key] == "absent"]
        for victim in victims:
            first = min(waiting, key=self.since.__getitem__)
            stay = self.total("loading", "loaded")
            assert stay + self.sizes[victim] + self.sizes[first] > BUDGET, "it went for nothing"

    @rule(key=keys)
    def ask(self, key: str) -> None:
        if self.state[key] == "failed":
            return  # It is refused before that.
        self.asked += 1
        if not self.waiting[key]:
            self.since[key] = self.asked
        self.waiting[key] += 1
        self.tell(Asked(key))

    @rule(key=keys)
    def want(self, key: str) -> None:
        self.tell(Wanted(key))

    @precondition(lambda self: self.running.total())
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(+self.running)))
        self.running[key] -= 1
        self.tell(Left(key, was_admitted=True))

    @precondition(lambda self: self.waiting.total())
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(+self.waiting)))
        self.waiting[key] -= 1
        if not self.waiting[key]:
            del self.waiting[key]
        self.tell(Left(key, was_admitted=False))

    @rule(key=keys)
    def dismiss(self, key: str) -> None:
        if self.state[key] in ("loading", "loaded", "failed"):
            self.dismissed.add(key)
        self.tell(Dismissed(key))

    @rule(key=keys)
    def crash(self, key: str) -> None:
        if self.state[key] in ("loading", "loaded"):
            self.end(key)

    @precondition(lambda self: self.may_fail())
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        """It cannot be loaded, or it is found that it cannot be while it waits."""
        key = data.draw(st.sampled_from(self.may_fail()))
        self.state[key] = "failed"
        self.tell(Failed(key, "it is broken"))
        assert not self.waiting[key], "it waits in vain"

    def may_fail(self) -> list[str]:
        """Those that somebody waits for first, for they are few."""
        here = [key for key in KEYS if self.state[key] in ("absent", "loading", "loaded")]
        return [key for key in here if self.waiting[key]] or [
            key for key in here if self.state[key] != "absent"
        ]

    def end(self, key: str) -> set[str]:
        self.state[key] = "absent"
        self.dismissed.discard(key)
        return self.tell(Gone(key))

    @rule(seconds=st.sampled_from([0.1, 1.0, PATIENCE]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.tell(TimePassed())

    @rule()
    def carry_out(self) -> None:
        self.complete()

    def complete(self) -> set[str]:
        """What is being loaded or unloaded is so at last."""
        served = set()
        for key in KEYS:
            if self.state[key] == "loading":
                self.state[key] = "loaded"
                served |= self.tell(Loaded(key, self.sizes[key]))
            elif self.state[key] == "leaving":
                served |= self.end(key)
        return served

    @invariant()
    def both_count_alike(self) -> None:
        if hasattr(self, "residency"):
            assert self.residency.used_bytes == self.total("loading", "loaded", "leaving")

    @invariant()
    def whom_a_person_sends_away_goes_at_rest(self) -> None:
        if hasattr(self, "residency"):
            for key in self.dismissed:
                assert self.running[key] or self.state[key] in ("leaving", "absent")

    def teardown(self) -> None:
        """Where each request ends some day, each that waits is served, whatever else is asked meanwhile."""
        if not hasattr(self, "residency"):
            return
        still = set(+self.waiting)
        for _ in range(4 * len(KEYS)):
            self.now += PATIENCE
            for key in KEYS:
                if self.state[key] == "loaded":
                    self.ask(key)
                    still &= set(+self.waiting)
            for key in KEYS:
                # Where somebody new was let in, that one stays: the model is never at rest by itself.
                stays = self.state[key] == "loaded" and self.running[key] > 1
                for _ in range(self.running[key] - stays):
                    self.running[key] -= 1
                    still -= self.tell(Left(key, was_admitted=True))
            still -= self.complete()
        assert not still, "somebody starves"


TestResidency = Machine.TestCase
TestResidency.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, phases=[Phase.generate, Phase.shrink]
)
