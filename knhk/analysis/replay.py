"""Replay of event logs: how well what happened fits a specification, and where it does not.

Token-based replay (Rozinat & van der Aalst, "Conformance checking of processes based on monitoring real behavior",
Information Systems 33, 2008): each trace plays the token game; a token that an event lacks is put and counted as missing, a
token that is left over at the end is counted as remaining, and ::

    fitness = 1/2 (1 - missing / consumed) + 1/2 (1 - remaining / produced)

It is 1 exactly where the trace is a run of the specification, since silent moves and the choices of splits are searched
rather than guessed (`knhk.analysis._replay_search`); what is silent, `knhk.analysis._replay_game` says.

What is decided where the paper is silent, its nets having one token game, no cancellation and no subnets:

- An event without a task in the specification counts as a task of its own: one token each produced, consumed, missing and
  remaining.  So does an event of a task that is busy and cannot start again.
- A task that holds its thread of control at the end counts as one token produced and remaining.
- What cancellation, a partial join or the end of a net removes is consumed.  In a trace that deviates, what lay in a net when
  it ended remains.
- A composite task's net produces one token when it begins, and its end consumes one.
- The fitness of a log is the mean over its traces; beside it stands the formula over all tokens of the log.

pm4py's token-based replay reports the same four counts and both means (``average_trace_fitness``, ``log_fitness``).  It looks
for silent transitions greedily along shortest paths, so that a trace that fits may be reported as one that does not; and it
leaves the events out that no transition is labelled with, where they count here.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from knhk._case_state import NetInstance
from knhk._lower import Kind, Program, lower
from knhk._tables import OUTPUT
from knhk.analysis._replay_game import Effect, Game, unfinished
from knhk.analysis._replay_names import Label, Names, Place
from knhk.analysis._replay_search import Belief, Ending, Search, Step
from knhk.formats.event_log import Trace
from knhk.spec import Specification

BUDGET: Final = 2_000
"""How many positions the search for one event looks at, unless told otherwise."""

_WIDTH: Final = 500
"""How many positions a case may be in after an event, as far as a replay keeps them."""

_EXAMPLES: Final = 3


class DeviationKind(enum.Enum):
    """How a trace deviates at a task."""

    NOT_ENABLED = "not_enabled"
    """An event of the task came when it was not enabled."""

    UNKNOWN_TASK = "unknown_task"
    """The specification has no task of this name."""

    NOT_COMPLETED = "not_completed"
    """The task has started and never completed."""

    LEFT_OVER = "left_over"
    """A token was left over in front of the task, which did not take it."""


@attrs.frozen
class Deviation:
    """
    One place where a trace is no run of the specification.

    Args:
        task: the task's path, or the log's name for an unknown one; "" for a token in front of no task.
        kind: in which way.
        position: which event of the trace, from 1, skipped ones not counted; 0: its end.
        condition: where a token was left over, else "".
    """

    task: str
    kind: DeviationKind
    position: int
    condition: str = ""


@attrs.frozen(kw_only=True)
class TraceReplay:
    """
    One replayed trace.

    Args:
        case: its id.
        fitness: 0 to 1; 1 exactly for a run of the specification.
        produced, consumed, missing, remaining: tokens.
        deviations: in the order of the trace.
        decided: whether no budget was met; else the trace may fit better than was found.
    """

    case: str
    fitness: float
    produced: int
    consumed: int
    missing: int
    remaining: int
    deviations: tuple[Deviation, ...]
    decided: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        tree = attrs.asdict(self, recurse=False)
        tree["deviations"] = [{**attrs.asdict(each), "kind": each.kind.value} for each in self.deviations]
        return tree


@attrs.frozen(kw_only=True)
class Variant:
    """
    Traces with the same events in the same order.

    Args:
        events: the log's names; a start is marked by a ``+`` behind its name.
        count: how many traces.
        cases: the ids of the first few.
        fitness: of each of them.
    """

    events: tuple[str, ...]
    count: int
    cases: tuple[str, ...]
    fitness: float


@attrs.frozen(kw_only=True)
class TaskDeviations:
    """
    The deviations of one kind at one task.

    Args:
        task, kind: as in `Deviation`.
        count: how often, over all traces.
        traces: in how many traces.
        cases: the ids of the first few.
    """

    task: str
    kind: DeviationKind
    count: int
    traces: int
    cases: tuple[str, ...]


@attrs.frozen(kw_only=True)
class ReplayReport:
    """
    How well a log fits a specification.

    Args:
        specification, version: which.
        traces, events: how many were replayed.
        fitting: traces with fitness 1.
        fitness: the mean over the traces; 1 for an empty log.
        token_fitness: the formula over the tokens of all traces.
        produced, consumed, missing, remaining: those tokens.
        undecided: traces that do not fit and whose search met a budget.
        variant_count: how many variants there are.
        variants: the most frequent.
        worst: the traces that fit least.
        deviations: by task and kind, the most frequent first.
        skipped: events that were not replayed, by reason.
        silent: the tasks with work to do that the log never names, and which were therefore taken to happen silently.
    """

    specification: str
    version: str
    traces: int
    events: int
    fitting: int
    fitness: float
    token_fitness: float
    produced: int
    consumed: int
    missing: int
    remaining: int
    undecided: int
    variant_count: int
    variants: tuple[Variant, ...]
    worst: tuple[TraceReplay, ...]
    deviations: tuple[TaskDeviations, ...]
    skipped: Mapping[str, int]
    silent: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        tree = attrs.asdict(self, recurse=False)
        tree["variants"] = [attrs.asdict(each) for each in self.variants]
        tree["worst"] = [each.to_dict() for each in self.worst]
        tree["deviations"] = [{**attrs.asdict(each), "kind": each.kind.value} for each in self.deviations]
        tree["skipped"] = dict(self.skipped)
        return tree


def replay(
    specification: Specification,
    traces: Iterable[Trace],
    *,
    names: Mapping[str, str | None] | None = None,
    strict: bool = False,
    unfinished_cases: bool = False,
    listed: int = 10,
    budget: int = BUDGET,
) -> ReplayReport:
    """
    Replay a log on a specification.

    A name in the log is a task's path from the root net (``approve``, ``ship/pick``, an instance as ``notify#2``), the id of a
    task that only one net has, or the displayed name of exactly one task.
    Events with the transition ``complete`` of the life cycle count, and those with ``start``; others are skipped and counted.
    A task that the log never names may happen silently; predicates are not evaluated: a split may choose as any data would.

    Args:
        specification: a well-formed one; what this version cannot run, such as a retry policy, does not matter here.
        traces: the log, looked at once (`knhk.formats.read_event_log`); equal traces are replayed once.
        names: log names to tasks, before anything else; None leaves the events of a name out.
        strict: a task with work to do (a handler, manual or external work) never happens silently.
        unfinished_cases: a trace may stop anywhere: nothing is asked of its end.
        listed: how many traces, and how many variants, the report lists.
        budget: how many positions the search for one event looks at; a trace for which it did not suffice is counted as
            undecided unless it fits.

    Raises:
        DataError: `names` maps to what is no task, or a name in the log could mean several tasks.
        ParseError: the log cannot be read.
    """
    program = lower(specification)
    log = _Log(Names(program, names or {}), examples=max(listed, _EXAMPLES))
    for trace in traces:
        log.add(trace)
    observed = frozenset((each.net, each.task) for each in log.labels if each is not None and not each.starts)
    starts = frozenset((each.net, each.task) for each in log.labels if each is not None and each.starts)
    working = _working(program)
    silent = () if strict else tuple(path for place, path in working.items() if place not in observed | starts)
    game = Game(program, observed=observed | frozenset(working) if strict else observed, observed_starts=starts)
    search = Search(game, log.labels, budget=budget, width=min(budget, _WIDTH))
    tally = _Tally(log, listed=listed)
    for events, cases in log.variants.items():
        tally.add(events, cases, _replay_variant(log, search, events, unfinished_cases=unfinished_cases))
    return tally.report(specification, silent)


def fitness(effect: Effect) -> float:
    """Return the fitness of token counts; 1 exactly where nothing is missing and nothing remains."""
    missing = effect.missing / effect.consumed if effect.consumed else 0.0
    remaining = effect.remaining / effect.produced if effect.produced else 0.0
    return (1 - missing) / 2 + (1 - remaining) / 2


def _working(program: Program) -> dict[Place, str]:
    """Return the tasks with work to do, each with a name for people."""
    return {
        (plan.number, number): f"{plan.name}: {task.task.id}" if plan.name else task.task.id
        for plan in program.nets
        for number, task in enumerate(plan.plans)
        if task.kind not in (Kind.ROUTING, Kind.SUBNET)
    }


@attrs.define
class _Cases:
    """How many cases went a way, and the first few."""

    count: int = 0
    ids: list[str] = attrs.field(factory=list)


class _Log:
    """The log as variants of numbered events, with what the numbers mean."""

    def __init__(self, names: Names, *, examples: int) -> None:
        self.names = names
        self.labels: list[Label | None] = []
        self.spelt: list[str] = []
        self.variants: dict[tuple[int, ...], _Cases] = {}
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
        cases = self.variants.setdefault(tuple(events), _Cases())
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
class _Outcome:
    """What became of a variant."""

    effect: Effect
    deviations: tuple[Deviation, ...]
    decided: bool


def _replay_variant(log: _Log, search: Search, events: tuple[int, ...], *, unfinished_cases: bool) -> _Outcome:
    belief = search.first()
    steps: list[Step] = []
    for event in events:
        step = search.step(belief, event)
        steps.append(step)
        belief = step.belief
    deviations = [_deviation(log, events[position], position) for position, step in enumerate(steps) if not step.fits]
    origin = 0
    produced, consumed, missing, remaining = 1, 0, 0, 0
    if not unfinished_cases:
        ending = search.end(belief)
        origin = ending.origin
        _, consumed, missing, remaining, _ = ending.effect
        produced += ending.effect.produced
        deviations += _left(ending, belief)
    for step in reversed(steps):
        effect = step.effects[origin]
        origin = step.origins[origin]
        produced += effect.produced
        consumed += effect.consumed
        missing += effect.missing
        remaining += effect.remaining
    fits = not missing and not remaining
    return _Outcome(Effect(produced, consumed, missing, remaining), tuple(deviations), fits or not belief.cut)


def _deviation(log: _Log, event: int, position: int) -> Deviation:
    label = log.labels[event]
    if label is None:
        return Deviation(log.spelt[event].removesuffix("+"), DeviationKind.UNKNOWN_TASK, position + 1)
    return Deviation(log.names.path(label), DeviationKind.NOT_ENABLED, position + 1)


def _left(ending: Ending, belief: Belief) -> list[Deviation]:
    """Name the tasks that a trace's end leaves in the middle; none where a run of the specification ended."""
    if ending.ended and not belief.deviates:
        return []
    found: dict[Deviation, None] = {}
    for net, task in unfinished(ending.state):
        found[Deviation(_path(net, task), DeviationKind.NOT_COMPLETED, 0)] = None
    for net in ending.state.nets.values():
        tables = net.plan.tables
        for condition, count in enumerate(net.marking.tokens):
            sunk = tables.sinks[condition] if tables.implicit else condition == OUTPUT
            if not count or sunk:
                continue
            takers = [task for task in tables.consumers[condition] if _takes(net, task, condition)]
            ready = [task for task in takers if net.marking.is_ready(task)]
            for task in ready or takers or [-1]:
                name = "" if task < 0 else _path(net, task)
                found[Deviation(name, DeviationKind.LEFT_OVER, 0, tables.conditions[condition])] = None
    return list(found)


def _takes(net: NetInstance, task: int, condition: int) -> bool:
    return any(condition == each for each, _ in net.plan.tables.table[task].inputs)


def _path(net: NetInstance, task: int) -> str:
    """Return a task's path without the numbers of instances."""
    parts = [net.plan.tables.tasks[task]]
    while net.parent is not None:
        parts.append(net.parent.plan.tables.tasks[net.task])
        net = net.parent
    return "/".join(reversed(parts))


class _Tally:
    """What the variants add up to."""

    def __init__(self, log: _Log, *, listed: int) -> None:
        self._log = log
        self._listed = listed
        self._total = Effect()
        self._traces = self._events = self._fitting = self._undecided = 0
        self._fitness = 0.0
        self._ranked: list[tuple[float, tuple[int, ...], _Outcome]] = []
        self._counts: Counter[tuple[str, DeviationKind]] = Counter()
        self._traces_of: Counter[tuple[str, DeviationKind]] = Counter()
        self._examples: dict[tuple[str, DeviationKind], list[str]] = {}

    def add(self, events: tuple[int, ...], cases: _Cases, outcome: _Outcome) -> None:
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
            examples += cases.ids[: _EXAMPLES - len(examples)]

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
                cases=tuple(variants[events].ids[:_EXAMPLES]),
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
