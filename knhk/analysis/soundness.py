"""Soundness: can every case complete, and properly?

After van der Aalst (1997, workflow nets) and Wynn, Verbeek, van der Aalst, ter Hofstede & Edmond (2009, "Business process
verification - finally a reality!", for YAWL nets with cancellation and OR-joins).
A net is *sound* when

- *option to complete*: from every state that can be reached, the end can be reached;
- *proper completion*: when the net ends, nothing is left of it: no other token, no running task.
  Instances that run on after control has passed (``continue``, detached) do not count;
- *no dead task*: every task can be started in some run;
- no condition can hold ever more tokens.

The nets of a specification are looked at one by one: a composite task is one activation, which runs and then completes, and so is
a task with multiple instances.  Predicates are free choices, or decided on data that is given; timers and events may come at any
time, or never; people and handlers may take as long as they like.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import attrs

from knhk._kernel import BUSY, Net
from knhk._lower import NetPlan, Program, lower
from knhk._plain import plain_data
from knhk._tables import XOR
from knhk.analysis._blame import Blame, blame_for_livelock, blame_for_stuck, left_over, listed, why_dead
from knhk.analysis._reduction import reduces_to_nothing
from knhk.analysis._relation import MOST_OUTPUTS, Relation, relation_of
from knhk.analysis._search import Explored, Growth, Meter, compiled_explorers, moves_along, path_to, search
from knhk.analysis._space import Move, State
from knhk.errors import Problem, SpecificationError
from knhk.expr import Dialect
from knhk.spec import Specification
from knhk.spec.places import inside
from knhk.spec.verdict import Answer, Budget, NetVerdict, ProblemKind, SoundnessProblem, Step, Verdict

AT_REGISTRATION = Budget(states=100_000, seconds=0.2)
"""What registering a specification spends on its soundness."""

_REMEMBERED = 256


def verify(
    specification: Specification,
    *,
    data: Mapping[str, Any] | None = None,
    budget: Budget | None = None,
    dialect: Dialect = "subset",
) -> Verdict:
    """
    Decide whether a specification is sound.

    The answer for the same content, data and budget is remembered, unless it is ``undecided``.

    Args:
        specification: what to look at.
        data: the case data, taken as constant: predicates that can be evaluated on it are decided.
            None: all predicates are free.
        budget: how much to spend.
        dialect: the language of its expressions.

    Raises:
        SpecificationError: it is not well-formed.
        DataError: `data` is not JSON.
    """
    found = specification.problems(dialect=dialect)
    if found:
        raise SpecificationError(found)
    return judge(lower(specification, dialect=dialect), data=data, budget=budget)


def judge(program: Program, *, data: Mapping[str, Any] | None = None, budget: Budget | None = None) -> Verdict:
    """Decide the soundness of a compiled specification; as `verify`."""
    text = None if data is None else json.dumps(plain_data(data, "the data"), sort_keys=True)
    question = _Question(
        content_hash=program.specification.content_hash,
        data=text,
        budget=budget if budget is not None else Budget(),
        program=program,
    )
    try:
        return _remembered(question)
    except _Undecided as undecided:
        return undecided.verdict


@attrs.frozen(kw_only=True)
class _Question:
    """What a verdict depends on; the program says no more than its hash."""

    content_hash: str
    data: str | None
    budget: Budget
    program: Program = attrs.field(eq=False, repr=False)


class _Undecided(Exception):
    """Carries a verdict past the memory: with a calmer machine it may be another one."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.verdict)
        self.verdict = verdict


@functools.lru_cache(maxsize=_REMEMBERED)
def _remembered(question: _Question) -> Verdict:
    verdict = _decide(question.program, None if question.data is None else json.loads(question.data), question.budget)
    if verdict.verdict == "undecided":
        raise _Undecided(verdict)
    return verdict


def _decide(program: Program, data: dict[str, Any] | None, budget: Budget) -> Verdict:
    meter = Meter(budget)
    compiled = compiled_explorers()
    nets = tuple(judge_net(plan, data, meter, compiled=compiled) for plan in program.nets)
    answers = {net.verdict for net in nets}
    verdict: Answer = "unsound" if "unsound" in answers else "undecided" if "undecided" in answers else "sound"
    warnings = tuple(each for plan in program.nets for each in _warnings(plan))
    return Verdict(verdict=verdict, nets=nets, warnings=warnings, seconds=meter.seconds())


def judge_net(plan: NetPlan, data: Mapping[str, Any] | None, meter: Meter, *, compiled: Any) -> NetVerdict:
    """Decide the soundness of one net within what is left of a budget."""
    if plan.empty:
        # It ends when it starts (rule 8).
        return NetVerdict(net=plan.name, verdict="sound", structural=True, states=0, bound=1)
    relation = relation_of(plan, data)
    if relation.open_splits:
        names = listed([plan.tables.tasks[task] for task in relation.open_splits])
        reason = f"the OR-split of {names} has more than {MOST_OUTPUTS} outputs, too many parts to look at"
        return NetVerdict(net=plan.name, verdict="undecided", structural=False, states=0, bound=None, reasons=(reason,))
    if reduces_to_nothing(relation, meter.expired):
        return NetVerdict(net=plan.name, verdict="sound", structural=True, states=0, bound=1)
    explored = search(relation, Net(plan.tables), meter, compiled=compiled)
    return read_off(plan.name, relation, explored)


def read_off(net: str, relation: Relation, explored: Explored) -> NetVerdict:
    """Say what a search has found; what it has not looked at may be anything."""
    explorer = explored.explorer
    teller = _Teller(net, relation, explored)
    problems: list[SoundnessProblem] = []
    if explorer.stuck >= 0:
        problems.append(teller.stuck(explorer.stuck))
    elif (doomed := explorer.doomed()) >= 0:
        problems.append(teller.doomed(doomed))
    if explorer.improper >= 0:
        problems.append(teller.improper(explorer.improper))
    if explored.growth is not None:
        problems.append(teller.unbounded(explored.growth))
    if explored.complete:
        problems += [teller.dead(t) for t in range(len(relation.tables.tasks)) if t not in explorer.started]
    return NetVerdict(
        net=net,
        verdict="unsound" if problems else "sound" if explored.complete else "undecided",
        structural=False,
        states=explorer.expanded,
        bound=max(explorer.most) if explored.complete else None,
        problems=tuple(problems),
        reasons=explored.reasons,
    )


class _Teller:
    """Tells the problems of one net."""

    def __init__(self, net: str, relation: Relation, explored: Explored) -> None:
        self.net = net
        self.tables = relation.tables
        self.explored = explored

    def stuck(self, number: int) -> SoundnessProblem:
        """A state in which nothing can happen, and which is not the end."""
        path = path_to(self.explored.explorer, number)
        blame = blame_for_stuck(self.tables, path[-1])
        message = f"{self._after(path)} nothing can happen any more: {blame.why}"
        return self._problem(ProblemKind.OPTION_TO_COMPLETE, Blame(blame.element, message), path)

    def doomed(self, number: int) -> SoundnessProblem:
        """A state from which things go on for ever, and the end cannot be reached."""
        path = path_to(self.explored.explorer, number)
        message = f"{self._after(path)} the net can only go on for ever: no way leads to the end"
        return self._problem(
            ProblemKind.OPTION_TO_COMPLETE, Blame(blame_for_livelock(self.tables, path[-1]), message), path
        )

    def improper(self, number: int) -> SoundnessProblem:
        """A state that has ended with something left."""
        path = path_to(self.explored.explorer, number)
        left = left_over(self.tables, path[-1])
        conditions = [name for name in left if name in self.tables.conditions]
        running = [name for name in left if name in self.tables.tasks]
        what = [f"{listed(conditions)} still {_holds(conditions)}"] if conditions else []
        what += [f"{listed(running)} still {'runs' if len(running) == 1 else 'run'}"] if running else []
        message = f"{self._after(path)} the net ends, but {' and '.join(what)}"
        return self._problem(ProblemKind.IMPROPER_COMPLETION, Blame(left[0], message), path)

    def unbounded(self, growth: Growth) -> SoundnessProblem:
        """A loop that leaves more tokens each time."""
        names = [self.tables.conditions[c] for c in growth.conditions]
        loop = self._steps(growth.path[growth.begin :])
        round_ = ", ".join(dict.fromkeys(step.task for step in loop))
        message = f"{listed(names)} can hold ever more tokens: each round of {round_} adds to it"
        return self._problem(ProblemKind.UNBOUNDED, Blame(names[0], message), growth.path)

    def dead(self, task: int) -> SoundnessProblem:
        """A task that no run starts."""
        name = self.tables.tasks[task]
        why = why_dead(self.explored.moves, task, self.explored.explorer.most)
        return SoundnessProblem(
            kind=ProblemKind.DEAD_TASK, net=self.net, element=name, message=f"{name!r} can never start: {why}"
        )

    def _problem(self, kind: ProblemKind, blame: Blame, path: tuple[State, ...]) -> SoundnessProblem:
        tokens, status, _ = path[-1]
        return SoundnessProblem(
            kind=kind,
            net=self.net,
            element=blame.element,
            message=blame.why,
            trace=self._steps(path),
            marking={name: count for name, count in zip(self.tables.conditions, tokens, strict=True) if count},
            running=tuple(name for name, each in zip(self.tables.tasks, status, strict=True) if each == BUSY),
        )

    def _steps(self, path: tuple[State, ...]) -> tuple[Step, ...]:
        return tuple(self._step(move) for move in moves_along(self.explored.moves, path))

    def _step(self, move: Move) -> Step:
        outputs = self.tables.table[move.task].outputs
        marks = tuple(self.tables.conditions[outputs[position][0]] for position in move.chosen)
        return Step(task=self.tables.tasks[move.task], action=move.action, marks=marks)

    def _after(self, path: tuple[State, ...]) -> str:
        if len(path) == 1:
            return "at the beginning"
        last = self._step(moves_along(self.explored.moves, path[-2:])[0])
        return f"after {str(last)!r}" if last.action != "fire" or last.marks else f"after {last.task!r}"


def _holds(conditions: list[str]) -> str:
    return "holds a token" if len(conditions) == 1 else "hold tokens"


def _warnings(plan: NetPlan) -> list[Problem]:
    """Name the splits that may have no true predicate: the completion is then refused, and the task stays running."""
    found = []
    for entry, task in zip(plan.tables.table, plan.plans, strict=True):
        predicates = [branch.predicate for branch in task.branches]
        if not predicates or any(each is None or each.text.strip() == "true" for each in predicates):
            continue
        place = inside(inside(f"subnets.{plan.name}.tasks" if plan.name else "tasks", task.task.id), "split")
        kind = "XOR" if entry.split == XOR else "OR"
        found.append(
            Problem(
                place, f"the {kind}-split has no default: if none of its predicates holds, the task cannot complete"
            )
        )
    return found
