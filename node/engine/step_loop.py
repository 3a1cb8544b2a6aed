"""Step loop: requests in, batches through the model, tokens out.

    handle(message)   Generate, Credit, Cancel      between two steps, so all take effect within one
    step()            plan -> decode -> sample      one batch for all sequences

Owns what belongs to a request while it lives: its slots, its choices and its times.
Knows the model by the port below, so it runs as well on one that only pretends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from federation.backend import Resume
from node.engine.choice import Choice
from node.engine.engine_prompt import Tokenizer, echoed, read_prompt
from node.engine.errors import PromptRefused
from node.engine.lookup import answer_lookup
from node.engine.pacing import Pacing
from node.engine.refusals import refusal
from node.engine.sampler import Grammar, Sampler
from node.engine.sampling import Adjustments, Rules, Scores
from node.engine.scheduler import Fork, Reading, Scheduler, SequenceId, Span
from node.engine.slots import Place, Slots
from node.engine.text_stream import TextStream
from node.engine.wire import (
    UNREAD_TOKENS_MAX,
    Accepted,
    Cancel,
    Credit,
    Detokenize,
    Embed,
    Finished,
    FromChild,
    Generate,
    GenerateRequest,
    ModelFacts,
    Prefilled,
    Refused,
    ToChild,
    Tokenize,
)

PROGRESS_INTERVAL = 0.5
"""Seconds between two Prefilled of one request. With steps of 0.4 s, one a second is kept; a longer one is
told of when it ends."""

RESUMPTION_MAX = 0.4
"""Seconds for taking in what was delivered: as long as a step may take. A thousand tokens take some
milliseconds; of a grammar that reads one text in many ways, every token takes longer than the one before."""


class Model(Tokenizer, Protocol):
    """What the loop asks of a model."""

    @property
    def facts(self) -> ModelFacts: ...
    @property
    def ends(self) -> Collection[int]:
        """The tokens that end an answer."""

    @property
    def can_rewind(self) -> bool:
        """Whether the end of a sequence can be forgotten."""

    def self_test(self, clock: Callable[[], float]) -> float: ...
    def piece(self, token: int) -> bytes: ...
    def index_vocabulary(self) -> None:
        """Get ready to compile grammars, which takes seconds."""

    def compile(self, grammar: str) -> Grammar: ...
    def decode(self, spans: Sequence[Span]) -> Sequence[Scores]:
        """Put `spans` into the context. Returns the scores of the token after each that wants output, in that
        order: good until the next `decode`, and not to be changed."""

    def prepare(self, place: Place) -> int:
        """Make ready a slot; returns how many tokens it really keeps."""

    def copy(self, source: int, slot: int) -> None:
        """What is in `source` is in `slot` too, and nothing else."""


@dataclass(slots=True)
class _Work:
    """One request under way."""

    id: int
    prompt_tokens: int
    cached_tokens: int
    arrived: float
    choices: list[Choice] = field(default_factory=list)
    slots: dict[SequenceId, int] = field(default_factory=dict)
    """Of the choices that go on."""
    started: float | None = None
    """When its first step began."""
    first_token: float | None = None
    reported: float = 0.0
    """When it last said something."""

    def spoke(self, now: float) -> None:
        """Tokens of it were sampled."""
        self.reported = now
        if self.first_token is None:
            self.first_token = now


class StepLoop:
    """All sequences of one engine."""

    def __init__(
        self,
        model: Model,
        scheduler: Scheduler,
        clock: Callable[[], float],
        new_seed: Callable[[], int],
        interval: float = 0.0,
    ) -> None:
        """`new_seed`: for who does not bring one. `interval`: seconds between two pieces of a choice."""
        self._model = model
        self._scheduler = scheduler
        self._clock = clock
        self._new_seed = new_seed
        self._slots = Slots(scheduler.config.slots, can_rewind=model.can_rewind)
        self._works: dict[int, _Work] = {}
        self._pacing = Pacing(interval)

    @property
    def has_work(self) -> bool:
        """Whether `step` would do anything."""
        return self._scheduler.has_work

    def handle(self, message: ToChild) -> list[FromChild]:
        """Take in one message. Credit and Cancel for what has ended only crossed its end."""
        match message:
            case Generate(request_id, request):
                return self._admit(request_id, request)
            case Tokenize(request_id, lookup) | Detokenize(request_id, lookup):
                return answer_lookup(self._model, request_id, lookup, self._clock)
            case Embed(request_id):
                return [Refused(request_id, "this model generates text, and embeds none", param="model")]
            case Credit(request_id, choice, tokens):
                work = self._works.get(request_id)
                if work is not None and (request_id, choice) in work.slots:
                    self._scheduler.grant((request_id, choice), tokens)
            case Cancel(request_id) if request_id in self._works:
                work = self._works.pop(request_id)
                for sequence_id in list(work.slots):
                    self._leave(work, sequence_id)
                self._pacing.drop(request_id)
            case _:
                pass
        return []

    def _admit(self, request_id: int, request: GenerateRequest) -> list[FromChild]:
        arrived = self._clock()
        try:
            prompt = read_prompt(self._model, request)
            choices = self._new_choices(request_id, request, prompt.tokens)
            resumed = self._resumed(choices, request.resume)
        except PromptRefused as error:
            return [refusal(request_id, error)]
        work = _Work(request_id, len(prompt.tokens), 0, arrived, choices, reported=arrived)
        self._works[request_id] = work
        self._begin(work, request, prompt.tokens)
        messages: list[FromChild] = [Accepted(request_id, prompt.sha256, len(prompt.tokens), resumed)]
        return messages + self._finish_if_over(work, arrived)

    def _new_choices(self, request_id: int, request: GenerateRequest, prompt: Sequence[int]) -> list[Choice]:
        grammar = self._model.compile(request.grammar) if request.grammar else None
        return [
            self._new_choice((request_id, number), request, prompt, grammar and grammar.copy())
            for number in range(request.choices)
        ]

    def _resumed(self, choices: Sequence[Choice], resume: Resume | None) -> tuple[str, ...]:
        """The text that was shown of each choice, which goes on after it now."""
        delivered = () if resume is None else resume.choices
        deadline = self._clock() + RESUMPTION_MAX
        return tuple(
            choice.resume(each, is_late=lambda: self._clock() > deadline)
            for choice, each in zip(choices, delivered, strict=False)
        )

    def _new_choice(
        self,
        sequence_id: SequenceId,
        request: GenerateRequest,
        prompt: Sequence[int],
        grammar: Grammar | None,
    ) -> Choice:
        banned = self._model.ends if request.ignore_eos else ()
        piece = self._piece_showing(request.shown)
        seed = request.sampling.seed
        sampler = Sampler(
            rules=Rules(request.sampling),
            adjustments=Adjustments(request.sampling, prompt, banned),
            grammar=grammar,
            seed=self._new_seed() if seed is None else seed,
            choice=sequence_id[1],
            top_logprobs=request.top_logprobs,
            piece=piece,
        )
        room = self._model.facts.context_size - len(prompt)
        wanted = request.max_tokens_default if request.max_tokens is None else request.max_tokens
        return Choice(
            sequence_id,
            sampler,
            TextStream(tuple(filter(None, request.stop))),
            length_max=room if wanted is None else min(wanted, room),
            is_end=self._model.ends.__contains__,
            piece=piece,
            unsaid=echoed(self._model, request, prompt) if request.is_echoed else "",
        )

    def _piece_showing(self, shown: Collection[str]) -> Callable[[int], bytes]:
        """The bytes of a token, those of control tokens in `shown` too."""
        facts = self._model.facts
        named = zip(facts.special_tokens, facts.special_ids, strict=True)
        texts = {token: text.encode() for text, token in named if text in shown}
        if not texts:
            return self._model.piece
        return lambda token: texts.get(token) or self._model.piece(token)

    def _begin(self, work: _Work, request: GenerateRequest, prompt: Sequence[int]) -> None:
        """Give a slot to each choice that has not ended: the first reads the prompt, the others follow it."""
        resume = request.resume
        is_replayed = resume is not None and resume.is_replayed
        is_reproducible = is_replayed or request.sampling.seed is not None
        leader: SequenceId | None = None
        for choice in work.choices:
            if choice.reason is not None:
                continue
            number = choice.id[1]
            delivered = resume.choices[number].token_ids if resume else ()
            reading = Reading(delivered, is_replayed, is_reproducible)
            # A cached prompt was read in other chunks, which rounds differently.
            place = self._slots.take(prompt, may_reuse=leader is None and not is_reproducible)
            work.slots[choice.id] = place.slot
            kept = self._model.prepare(place)
            self._slots.advance(place.slot, kept)
            if leader is None:
                leader = choice.id
                work.cached_tokens = kept
                self._scheduler.admit(
                    choice.id, place.slot, prompt, credit=UNREAD_TOKENS_MAX, kept=kept, reading=reading
                )
            else:
                self._scheduler.follow(
                    choice.id, place.slot, leader, credit=UNREAD_TOKENS_MAX, reading=reading
                )

    def step(self) -> list[FromChild]:
        """One batch: what came out of it."""
        spans = self._scheduler.plan()
        began = self._clock()
        for span in spans:
            work = self._works[span.id[0]]
            if work.started is None:
                work.started = began
        outputs = self._model.decode(spans)
        forks = self._scheduler.carried_out(spans)
        for span in spans:
            self._slots.advance(span.slot, self._scheduler.held(span.id))
        due = self._due(spans, outputs, forks)
        messages: list[FromChild] = [message for each, scores in due for message in self._take(each, scores)]
        now = self._clock()
        messages += self._pacing.due(now, self._scheduler.is_paused)
        # Sampling waits for the batch's results, so it belongs to the time of the step.
        self._scheduler.took(now - began)
        for request_id in dict.fromkeys(each[0] for each, _ in due):
            spoken = self._works.get(request_id)
            if spoken is not None:
                spoken.spoke(now)
                messages += self._finish_if_over(spoken, now)
        return messages + self._progress(now)

    def _due(
        self, spans: Sequence[Span], outputs: Sequence[Scores], forks: Sequence[Fork]
    ) -> list[tuple[SequenceId, Scores]]:
        """Whose next token can be sampled, and from which scores."""
        spoken = [span.id for span in spans if span.wants_output]
        scores_of = dict(zip(spoken, outputs, strict=True))
        due = [each for each in scores_of.items() if self._scheduler.is_read(each[0])]
        for fork in forks:
            self._model.copy(fork.source, fork.slot)
            self._slots.advance(fork.slot, self._scheduler.held(fork.id))
            if fork.is_sampled:
                due.append((fork.id, scores_of[fork.leader]))
        return due

    def _take(self, sequence_id: SequenceId, scores: Scores) -> list[FromChild]:
        """The next token of one choice, of which is told in time. A grammar that fails on the way is the end
        of its request alone."""
        request_id, number = sequence_id
        work = self._works.get(request_id)
        if work is None:
            return []  # Another choice of it has failed in this step.
        choice = work.choices[number]
        try:
            sampled = choice.sampler.sample(scores)
            piece = choice.take(sampled)
        except PromptRefused as error:
            self.handle(Cancel(request_id))
            return [refusal(request_id, error)]
        if choice.reason is not None or sampled is None:
            self._leave(work, sequence_id)
        else:
            self._scheduler.sampled(sequence_id, sampled.token)
        self._pacing.hold(piece)
        return []

    def _leave(self, work: _Work, sequence_id: SequenceId) -> None:
        """Its slot is free, and keeps what it holds."""
        self._slots.leave(work.slots.pop(sequence_id), self._scheduler.remove(sequence_id))

    def _finish_if_over(self, work: _Work, now: float) -> list[FromChild]:
        if work.slots:
            return []
        reasons = tuple(choice.reason for choice in work.choices if choice.reason is not None)
        del self._works[work.id]
        # Where all was delivered already, nothing is left to do and no time was taken.
        started = now if work.started is None else work.started
        first_token = now if work.first_token is None else work.first_token
        return [
            Finished(
                work.id,
                reasons,
                prompt_tokens=work.prompt_tokens,
                completion_tokens=sum(choice.length for choice in work.choices),
                cached_tokens=work.cached_tokens,
                queue=started - work.arrived,
                prefill=first_token - started,
                decode=now - first_token,
            )
        ]

    def _progress(self, now: float) -> list[FromChild]:
        messages: list[FromChild] = []
        for (request_id, _), read, total in self._scheduler.unfinished():
            work = self._works[request_id]
            if now - work.reported >= PROGRESS_INTERVAL:
                work.reported = now
                messages.append(Prefilled(request_id, read, total))
        return messages
