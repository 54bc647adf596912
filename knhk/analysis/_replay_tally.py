"""A log as variants, and what the variants add up to."""

from __future__ import annotations

from collections import Counter
from typing import Final

import attrs

from knhk.analysis._replay_game import Effect
from knhk.analysis._replay_names import Label, Names
from knhk.analysis._replay_report import Deviation, DeviationKind, ReplayReport, TaskDeviations, TraceReplay, Variant
from knhk.formats.event_log import Trace
from knhk.spec import Specification

EXAMPLES: Final = 3
"""How many cases a report names where it gives examples."""


def fitness(effect: Effect) -> float:
    """Return the fitness of token counts; 1 exactly where nothing is missing and nothing remains."""
    missing = effect.missing / effect.consumed if effect.consumed else 0.0
    remaining = effect.remaining / effect.produced if effect.produced else 0.0
    return (1 - missing) / 2 + (1 - remaining) / 2


@attrs.define
class Cases:
    """How many cases went a way, and the first few."""

    count: int = 0
    ids: list[str] = attrs.field(factory=list)


class Log:
    """The log as variants of numbered events, with what the numbers mean."""

    def __init__(self, names: Names, *, examples: int) -> None:
        self.names = names
        self.labels: list[Label | None] = []
        self.spelt: list[str] = []
        self.variants: dict[tuple[int, ...], Cases] = {}
        self._reasons: list[str] = []
        self._skipped: list[int] = []
        self._numbers: dict[tuple[str, str], int] = {}
        self._examples = examples

    def add(self, trace: Trace) -> None:
        """Take a trace in."""
        numbers = self._numbers
        events: list[int] = []
        for task, lifecycle, _ in trace.events:
            number = numbers.get((task, lifecycle))
            if number is None:
                number = numbers[task, lifecycle] = self._meet(task, lifecycle)
            if number >= 0:
                events.append(number)
            else:
                self._skipped[~number] += 1
        cases = self.variants.setdefault(tuple(events), Cases())
        cases.count += 1
        if len(cases.ids) < self._examples:
            cases.ids.append(trace.case)

    def skipped(self) -> dict[str, int]:
        """Return how many events were not replayed, by reason."""
        return dict(zip(self._reasons, self._skipped, strict=True))

    def _meet(self, task: str, lifecycle: str) -> int:
        """Return the number of an event, or the complement of a reason's, for skipping it."""
        reason = ""
        if self.names.left_out(task):
            reason = "left out by the mapping"
        elif lifecycle not in ("complete", "start"):
            reason = f"transition {lifecycle}"
        if reason:
            if reason not in self._reasons:
                self._reasons.append(reason)
                self._skipped.append(0)
            return ~self._reasons.index(reason)
        starts = lifecycle == "start"
        self.labels.append(self.names.find(task, starts=starts))
        self.spelt.append(f"{task}+" if starts else task)
        return len(self.labels) - 1


@attrs.frozen
class Outcome:
    """What became of a variant."""

    effect: Effect
    deviations: tuple[Deviation, ...]
    decided: bool


class Tally:
    """What the variants add up to."""

    def __init__(self, log: Log, *, listed: int) -> None:
        self._log = log
        self._listed = listed
        self._total = Effect()
        self._traces = self._events = self._fitting = self._undecided = 0
        self._fitness = 0.0
        self._ranked: list[tuple[float, tuple[int, ...], Outcome]] = []
        self._counts: Counter[tuple[str, DeviationKind]] = Counter()
        self._traces_of: Counter[tuple[str, DeviationKind]] = Counter()
        self._examples: dict[tuple[str, DeviationKind], list[str]] = {}

    def add(self, events: tuple[int, ...], cases: Cases, outcome: Outcome) -> None:
        """Count a variant."""
        effect, count = outcome.effect, cases.count
        fits = not effect.missing and not effect.remaining
        value = fitness(effect)
        self._traces += count
        self._events += count * len(events)
        self._fitting += count * fits
        self._undecided += count * (not outcome.decided)
        self._fitness += count * value
        self._total = Effect(*(total + count * each for total, each in zip(self._total, effect, strict=True)))
        self._ranked.append((value, events, outcome))
        deviations = Counter((each.task, each.kind) for each in outcome.deviations)
        for name, times in deviations.items():
            self._counts[name] += count * times
            self._traces_of[name] += count
            examples = self._examples.setdefault(name, [])
            examples += cases.ids[: EXAMPLES - len(examples)]

    def report(self, specification: Specification, silent: tuple[str, ...]) -> ReplayReport:
        """Return the report."""
        total = self._total
        return ReplayReport(
            specification=specification.id,
            version=specification.version,
            traces=self._traces,
            events=self._events,
            fitting=self._fitting,
            # A sum of many ones is exact; a mean of less is not to be rounded up to one.
            fitness=1.0 if self._fitting == self._traces else self._fitness / self._traces,
            token_fitness=fitness(total),
            produced=total.produced,
            consumed=total.consumed,
            missing=total.missing,
            remaining=total.remaining,
            undecided=self._undecided,
            variant_count=len(self._ranked),
            variants=self._variants(),
            worst=self._worst(),
            deviations=tuple(
                TaskDeviations(
                    task=task,
                    kind=kind,
                    count=count,
                    traces=self._traces_of[task, kind],
                    cases=tuple(self._examples[task, kind]),
                )
                for (task, kind), count in self._counts.most_common()
            ),
            skipped=self._log.skipped(),
            silent=silent,
        )

    def _variants(self) -> tuple[Variant, ...]:
        variants = self._log.variants
        often = sorted(self._ranked, key=lambda each: -variants[each[1]].count)[: self._listed]
        return tuple(
            Variant(
                events=tuple(self._log.spelt[each] for each in events),
                count=variants[events].count,
                cases=tuple(variants[events].ids[:EXAMPLES]),
                fitness=value,
            )
            for value, events, _ in often
        )

    def _worst(self) -> tuple[TraceReplay, ...]:
        worst: list[TraceReplay] = []
        for value, events, outcome in sorted(self._ranked, key=lambda each: each[0]):
            if value == 1 or len(worst) >= self._listed:
                break
            effect = outcome.effect
            worst.extend(
                TraceReplay(
                    case=case,
                    fitness=value,
                    produced=effect.produced,
                    consumed=effect.consumed,
                    missing=effect.missing,
                    remaining=effect.remaining,
                    deviations=outcome.deviations,
                    decided=outcome.decided,
                )
                for case in self._log.variants[events].ids[: self._listed - len(worst)]
            )
        return tuple(worst)
