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

from collections.abc import Iterable, Mapping
from typing import Final

from knhk._lower import Kind, Program, lower
from knhk._net_instance import NetInstance
from knhk._tables import OUTPUT
from knhk.analysis._replay_game import Effect, Game
from knhk.analysis._replay_names import Names, Place
from knhk.analysis._replay_positions import unfinished
from knhk.analysis._replay_report import Deviation, DeviationKind, ReplayReport, TaskDeviations, TraceReplay, Variant
from knhk.analysis._replay_search import Belief, Ending, Search, Step
from knhk.analysis._replay_tally import EXAMPLES, Log, Outcome, Tally
from knhk.formats.event_log import Trace
from knhk.spec import Specification

__all__ = (
    "BUDGET",
    "Deviation",
    "DeviationKind",
    "ReplayReport",
    "TaskDeviations",
    "TraceReplay",
    "Variant",
    "replay",
)

BUDGET: Final = 2_000
"""How many running nets the search for one event looks at, unless told otherwise."""

_WIDTH: Final = 500
"""How many positions a case may be in after an event, as far as a replay keeps them."""


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
        budget: how many running nets, in all positions together, the search for one event looks at; a trace for which it did not suffice is counted as
            undecided unless it fits.

    Raises:
        DataError: `names` maps to what is no task, or a name in the log could mean several tasks.
        ParseError: the log cannot be read.
    """
    program = lower(specification)
    log = Log(Names(program, names or {}), examples=max(listed, EXAMPLES))
    for trace in traces:
        log.add(trace)
    observed = frozenset((each.net, each.task) for each in log.labels if each is not None and not each.starts)
    starts = frozenset((each.net, each.task) for each in log.labels if each is not None and each.starts)
    working = _working(program)
    silent = () if strict else tuple(path for place, path in working.items() if place not in observed | starts)
    game = Game(program, observed=observed | frozenset(working) if strict else observed, observed_starts=starts)
    search = Search(game, log.labels, budget=budget, width=min(budget, _WIDTH))
    tally = Tally(log, listed=listed)
    for events, cases in log.variants.items():
        tally.add(events, cases, _replay_variant(log, search, events, unfinished_cases=unfinished_cases))
    return tally.report(specification, silent)


def _working(program: Program) -> dict[Place, str]:
    """Return the tasks with work to do, each with a name for people."""
    return {
        (plan.number, number): f"{plan.name}: {task.task.id}" if plan.name else task.task.id
        for plan in program.nets
        for number, task in enumerate(plan.plans)
        if task.kind not in (Kind.ROUTING, Kind.SUBNET)
    }


def _replay_variant(log: Log, search: Search, events: tuple[int, ...], *, unfinished_cases: bool) -> Outcome:
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
    return Outcome(Effect(produced, consumed, missing, remaining), tuple(deviations), fits or not belief.cut)


def _deviation(log: Log, event: int, position: int) -> Deviation:
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
    if not found and not ending.ended:
        found[Deviation("", DeviationKind.NOT_ENDED, 0)] = None
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
