"""Specification -> tables and plans, once, at registration: compile, don't interpret.

The kernel gets integers (`knhk._tables`).
What the case needs beside them (predicates, counts, kinds of work) is compiled here into a `NetPlan`, with the same numbers.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from knhk._tables import AND, OR, PARTIAL, XOR, Tables, TaskTable, build_tables
from knhk.expr import Dialect, Expression, compile_expression, equation
from knhk.spec import (
    ANY_ERROR,
    END,
    START,
    Compensate,
    Flow,
    Join,
    Manual,
    Moment,
    Net,
    PartialJoin,
    Remaining,
    Specification,
    Split,
    Task,
    Termination,
    WorkletRule,
)
from knhk.spec.model import mapping_variables
from knhk.spec.repeats import is_moment, milliseconds_of

_JOINS = {Join.AND: AND, Join.XOR: XOR, Join.OR: OR}
_SPLITS = {Split.AND: AND, Split.XOR: XOR, Split.OR: OR}


ANYONE: Final = "anyone"
"""The audience of work that is for everybody."""


class Kind(enum.Enum):
    """Who does the work of a task."""

    ROUTING = "routing"
    HANDLER = "handler"
    MANUAL = "manual"
    EXTERNAL = "external"
    WORKLET = "worklet"
    SUBNET = "subnet"


@attrs.frozen(kw_only=True)
class Branch:
    """
    One output of a split, in the order in which predicates are looked at (the default last).

    Args:
        position: its place in the task's ``outputs``.
        predicate: what must hold; None for the default.
        label: the flow as the modeller wrote it, for error messages.
    """

    position: int
    predicate: Expression | None
    label: str


@attrs.frozen(kw_only=True)
class ErrorBranch:
    """
    One output that failure alone chooses.

    Args:
        position: its place in the task's ``outputs``.
        names: the errors that take it; `ANY_ERROR` is any.
    """

    position: int
    names: frozenset[str]


@attrs.frozen(kw_only=True)
class Rule:
    """
    One choice of a worklet.

    Args:
        worklet: the id of the specification that runs.
        predicate: what must hold; None: it always does.
        errors: the names of the errors that it is for; empty: any.
    """

    worklet: str
    predicate: Expression | None
    errors: frozenset[str]


@attrs.frozen(kw_only=True)
class TaskPlan:
    """
    What the case needs to know of a task beside its table.

    Args:
        task: what the modeller wrote.
        kind: who does the work.
        automatic: whether it starts by itself as soon as it is ready (no person, no timer in front).
        branches: the split's predicates; empty where every output gets a token that is no error flow.
        every_output: those outputs.
        errors: the error flows, in the order of the text.
        count, for_each, until: the expressions of a multiple-instance task; a constant count is an int.
        subnet: the number of the net that a composite task stands for, or -1.
        people: what is said of the people who do it beyond their roles, or None.
        participants: the expression for further participants.
        audience: whom its work is for, where that expression says nothing (`audience`).
        separate: ids of the tasks that whoever does this one must not have done, both ways round.
        remembered: whether it matters later who did it.
        shared_out: whether its instances are offered, each for itself, instead of started together.
        moment: when its timer ends, where that is a time: milliseconds since the epoch, or an expression.
        correlate: the predicate of its trigger over data and event; `key` are its sides over the data alone and over the event
            alone, where it is such an equation.
        input, output: the task's mappings, each an expression by name; None: there is none.
        requires, ensures: the constraints on the data before and after.
        compensation: the work that undoes it, or None.
        worklets, exlets: which specification runs as its work, and which when that has failed for good.
        guarded: whether they have a say when it starts; where it is offered `requires` has it before.
    """

    task: Task
    kind: Kind
    automatic: bool
    branches: tuple[Branch, ...]
    every_output: tuple[int, ...]
    errors: tuple[ErrorBranch, ...] = ()
    count: int | Expression | None = None
    for_each: Expression | None = None
    until: Expression | None = None
    subnet: int = -1
    people: Manual | None = None
    participants: Expression | None = None
    audience: tuple[str, ...] = ()
    separate: frozenset[str] = frozenset()
    remembered: bool = False
    shared_out: bool = False
    moment: int | Expression | None = None
    correlate: Expression | None = None
    key: tuple[Expression, Expression] | None = None
    input: Mapping[str, Expression] | None = None
    output: Mapping[str, Expression] | None = None
    requires: Expression | None = None
    ensures: Expression | None = None
    guarded: bool = False
    compensation: TaskPlan | None = None
    worklets: tuple[Rule, ...] = ()
    exlets: tuple[Rule, ...] = ()

    @property
    def maps(self) -> bool:
        """Whether its work is given, or gives, other than the case's data as they are."""
        return self.input is not None or self.output is not None


@attrs.frozen(kw_only=True, eq=False)
class NetPlan:
    """
    One net, compiled.

    Args:
        number, name: which of the program's nets it is.
        tables: for the kernel.
        plans: for the case, by task.
        index: tasks by name.
        listeners: tasks by the event that they wait for; `triggered` are their numbers.
        timed: the tasks with a timer.
        deadlines: the tasks with a deadline.
        conditional: the offered tasks that require something of the data.
        alone: the offered tasks from whose start nothing follows: no other task waits for what they take, and nothing that
            looks at the net as a whole is in it.
        at_once: those of them that are work of people of which nothing is said but whom it is for, and that cancel nothing: to
            complete one as it is offered is a matter of the marking and the data.
        watched: whether it has tasks with a timer, a deadline or a trigger.
        settles: whether OR-joins, or its end, are decided only when nothing else happens any more.
        empty: whether it has no task at all, and so ends when it starts.
    """

    number: int
    name: str
    tables: Tables
    plans: tuple[TaskPlan, ...]
    index: Mapping[str, int]
    listeners: Mapping[str, int]
    triggered: tuple[int, ...]
    timed: tuple[int, ...]
    deadlines: tuple[int, ...]
    conditional: tuple[int, ...]
    alone: frozenset[int]
    at_once: frozenset[int]
    watched: bool
    settles: bool
    empty: bool


@attrs.frozen(kw_only=True, eq=False)
class Program:
    """
    A specification, compiled: net 0 is the root.

    `conditional` is whether any net has such tasks, `settles` whether any net does so, `keyed` whether any trigger finds its
    cases by a key, `calls` whether any task has worklets or exlets.
    """

    specification: Specification
    nets: tuple[NetPlan, ...]
    conditional: bool = False
    settles: bool = False
    keyed: bool = False
    calls: bool = False


def audience(manual: Manual, named: tuple[str, ...] = ()) -> tuple[str, ...]:
    """
    Return whom a task's work is for, as the worklist knows it: ``role:clerk``, ``participant:ann``.

    Args:
        manual: what the task says.
        named: further participants, where it names them by an expression.
    """
    union = [
        *(f"role:{each}" for each in manual.roles),
        *(f"participant:{each}" for each in (*manual.participants, *named)),
    ]
    if union or manual.participants_from is not None:
        return tuple(dict.fromkeys(union))
    # Who is meant can still be narrower than everybody; the list then has to look at fewer items.
    if manual.positions:
        return tuple(f"position:{each}" for each in manual.positions)
    return (f"capability:{manual.capabilities[0]}",) if manual.capabilities else (ANYONE,)


def lower(specification: Specification, *, dialect: Dialect = "subset") -> Program:
    """Compile a well-formed specification; the caller has checked it (`Specification.problems`)."""
    names = {name: number for number, name in enumerate(specification.nets())}
    bonds = _bonds(specification)
    nets = tuple(
        _lower_net(names[name], name, net, names, dialect, bonds) for name, net in specification.nets().items()
    )
    return Program(
        specification=specification,
        nets=nets,
        conditional=any(net.conditional for net in nets),
        settles=any(net.settles for net in nets),
        keyed=any(plan.key is not None for net in nets for plan in net.plans),
        calls=any(plan.worklets or plan.exlets for net in nets for plan in net.plans),
    )


@attrs.frozen
class _Bonds:
    """How tasks hang together through the people who do them: the separate ones by task id, and those to remember."""

    separate: Mapping[str, frozenset[str]]
    remembered: frozenset[str]


def _bonds(specification: Specification) -> _Bonds:
    separate: dict[str, set[str]] = {}
    remembered: set[str] = set()
    for net in specification.nets().values():
        for task in net.tasks:
            if task.manual is None:
                continue
            for other in task.manual.separate_from:
                # Whichever is done first keeps its doer from the other.
                separate.setdefault(task.id, set()).add(other)
                separate.setdefault(other, set()).add(task.id)
            if task.manual.familiar_to is not None:
                remembered.add(task.manual.familiar_to)
    return _Bonds(
        {each: frozenset(others) for each, others in separate.items()}, frozenset(remembered | separate.keys())
    )


def _implicit(flow: Flow) -> str:
    return f"{flow.source}>{flow.target}"


def _lower_net(number: int, name: str, net: Net, names: Mapping[str, int], dialect: Dialect, bonds: _Bonds) -> NetPlan:
    tasks = {task.id: position for position, task in enumerate(net.tasks)}
    between = [_implicit(flow) for flow in net.flows if flow.source in tasks and flow.target in tasks]
    conditions = {
        each: position for position, each in enumerate([START, END, *(c.id for c in net.conditions), *between])
    }
    inputs: dict[str, list[tuple[int, int]]] = {task: [] for task in tasks}
    outputs: dict[str, list[tuple[int, int]]] = {task: [] for task in tasks}
    flows: dict[str, list[Flow]] = {task: [] for task in tasks}
    for flow in net.flows:
        source_is_task = flow.source in tasks
        target_is_task = flow.target in tasks
        place = conditions[_implicit(flow)] if source_is_task and target_is_task else None
        if source_is_task:
            outputs[flow.source].append((conditions[flow.target] if place is None else place, flow.weight))
            flows[flow.source].append(flow)
        if target_is_task:
            inputs[flow.target].append((conditions[flow.source], flow.weight) if place is None else (place, 1))
    table = tuple(
        _lower_task(t, tuple(inputs[t.id]), tuple(outputs[t.id]), conditions, tasks, flows[t.id]) for t in net.tasks
    )
    plans = tuple(_plan(task, flows[task.id], names, dialect, bonds) for task in net.tasks)
    listeners = {task.trigger.event: tasks[task.id] for task in net.tasks if task.trigger is not None}
    implicit = net.termination is Termination.IMPLICIT
    tables = build_tables(conditions=tuple(conditions), tasks=tuple(tasks), table=table, implicit=implicit)
    conditional = tuple(number for number, plan in enumerate(plans) if plan.requires and _is_offered(plan))
    watched = any(task.timer is not None or task.deadline is not None or task.trigger is not None for task in net.tasks)
    alone = frozenset() if watched or conditional or tables.or_joins else _alone(tables, plans)
    return NetPlan(
        number=number,
        name=name,
        tables=tables,
        plans=plans,
        index=tasks,
        listeners=listeners,
        triggered=tuple(sorted(listeners.values())),
        timed=tuple(number for number, task in enumerate(net.tasks) if task.timer is not None),
        deadlines=tuple(number for number, task in enumerate(net.tasks) if task.deadline is not None),
        conditional=conditional,
        alone=alone,
        at_once=frozenset(each for each in alone if _is_bare(plans[each]) and not net.tasks[each].cancels),
        watched=watched,
        settles=implicit or bool(tables.or_joins),
        empty=not net.tasks,
    )


def _lower_task(
    task: Task,
    inputs: tuple[tuple[int, int], ...],
    outputs: tuple[tuple[int, int], ...],
    conditions: Mapping[str, int],
    tasks: Mapping[str, int],
    flows: list[Flow],
) -> TaskTable:
    partial = task.join if isinstance(task.join, PartialJoin) else None
    join = AND
    if partial is not None:
        join = PARTIAL
    elif isinstance(task.join, Join):
        join = _JOINS[task.join]
    cancels = partial.cancels if partial is not None else None
    multiple = task.multiple
    return TaskTable(
        join=join,
        split=_split(task, flows),
        inputs=inputs,
        outputs=outputs,
        required=0 if partial is None else partial.required,
        reads=tuple(conditions[each] for each in task.reads),
        cancels_conditions=tuple(conditions[each] for each in task.cancels if each in conditions),
        cancels_tasks=tuple(tasks[each] for each in task.cancels if each in tasks),
        join_cancels=cancels is not None,
        join_cancels_conditions=()
        if cancels is None
        else tuple(
            dict.fromkeys([*(c for c, _ in inputs), *(conditions[each] for each in cancels if each in conditions)])
        ),
        join_cancels_tasks=() if cancels is None else tuple(tasks[each] for each in cancels if each in tasks),
        detached=multiple is not None and multiple.detached,
        continues=multiple is not None and not multiple.detached and multiple.remaining is Remaining.CONTINUE,
    )


def _split(task: Task, flows: list[Flow]) -> int:
    """Return the kernel's split: with error flows exactly one output gets a token, whichever way the task ends."""
    if any(flow.on_error for flow in flows):
        return XOR
    return AND if task.split is None else _SPLITS[task.split]


def _kind(task: Task) -> Kind:
    if task.subnet is not None:
        return Kind.SUBNET
    if task.handler is not None or task.http is not None:
        return Kind.HANDLER
    if task.manual is not None:
        return Kind.MANUAL
    if task.worklet:
        return Kind.WORKLET
    return Kind.EXTERNAL if task.external is not None else Kind.ROUTING


def _plan(task: Task, flows: list[Flow], names: Mapping[str, int], dialect: Dialect, bonds: _Bonds) -> TaskPlan:
    kind = _kind(task)
    branches: list[Branch] = []
    normal = [(position, flow) for position, flow in enumerate(flows) if not flow.on_error]
    if task.split in (Split.XOR, Split.OR) and (len(normal) > 1 or any(flow.when for _, flow in normal)):
        ordered = sorted(normal, key=lambda pair: pair[1].default)
        for position, flow in ordered:
            predicate = None if flow.default or flow.when is None else compile_expression(flow.when, dialect=dialect)
            branches.append(Branch(position=position, predicate=predicate, label=flow.label))
    multiple = task.multiple
    count: int | Expression | None = None
    for_each = until = None
    if multiple is not None:
        count = (
            compile_expression(multiple.count, dialect=dialect) if isinstance(multiple.count, str) else multiple.count
        )
        for_each = None if multiple.for_each is None else compile_expression(multiple.for_each, dialect=dialect)
        if multiple.until is not None:
            until = compile_expression(multiple.until, variables=("data", "completed", "created"), dialect=dialect)
    manual = task.manual
    named = None if manual is None else manual.participants_from
    # What starts by its timer comes up then, and somebody has to take it up, too.
    comes_up_started = multiple is not None or task.timer is not None
    shared_out = comes_up_started and manual is not None and not manual.is_plain
    by_itself = (Kind.ROUTING, Kind.HANDLER, Kind.SUBNET, Kind.WORKLET)
    automatic = (kind in by_itself or shared_out) and task.timer is None
    given, gives = mapping_variables(task)
    meant = None if task.trigger is None else task.trigger.correlate
    correlate = None if meant is None else compile_expression(meant, variables=("data", "event"), dialect=dialect)
    return TaskPlan(
        task=task,
        kind=kind,
        automatic=automatic,
        branches=tuple(branches),
        every_output=tuple(position for position, _ in normal),
        errors=tuple(
            ErrorBranch(position=position, names=frozenset(flow.on_error))
            for position, flow in enumerate(flows)
            if flow.on_error
        ),
        count=count,
        for_each=for_each,
        until=until,
        subnet=-1 if task.subnet is None else names[task.subnet],
        people=None if manual is None or manual.is_plain else manual,
        participants=None if named is None else compile_expression(named, dialect=dialect),
        audience=() if manual is None else audience(manual),
        separate=bonds.separate.get(task.id, frozenset()) if manual is not None else frozenset(),
        remembered=manual is not None and task.id in bonds.remembered,
        shared_out=shared_out,
        requires=_constraint(task.requires, dialect),
        ensures=_constraint(task.ensures, dialect),
        compensation=None if task.compensate is None else _compensation(task.id, task.compensate),
        worklets=_rules(task.worklet, ("data", *given[1:]), dialect),
        exlets=_rules(task.exlet, ("data", "error", *given[1:]), dialect),
        guarded=(task.requires is not None and (automatic or task.timer is not None))
        or (task.ensures is not None and kind is Kind.ROUTING),
        moment=_moment(task, dialect),
        correlate=correlate,
        key=None if correlate is None else _key(correlate),
        input=_compiled(task.input, given, dialect),
        output=_compiled(task.output, gives, dialect),
    )


def _rules(rules: Sequence[WorkletRule], variables: tuple[str, ...], dialect: Dialect) -> tuple[Rule, ...]:
    return tuple(
        Rule(
            worklet=rule.worklet,
            predicate=None
            if rule.when is None
            else compile_expression(rule.when, variables=variables, dialect=dialect),
            errors=frozenset() if ANY_ERROR in rule.on_error else frozenset(rule.on_error),
        )
        for rule in rules
    )


def _moment(task: Task, dialect: Dialect) -> int | Expression | None:
    if not isinstance(task.timer, Moment):
        return None
    text = task.timer.at
    return milliseconds_of(text) if is_moment(text) else compile_expression(text, dialect=dialect)


def _compensation(task: str, compensate: Compensate) -> TaskPlan:
    """Return the plan of a task that no net has: it does what undoes another."""
    undo = Task(id=task, handler=compensate.handler, retry=compensate.retry, timeout=compensate.timeout)
    return TaskPlan(task=undo, kind=Kind.HANDLER, automatic=True, branches=(), every_output=())


def _key(correlate: Expression) -> tuple[Expression, Expression] | None:
    sides = equation(correlate)
    by_variables = {} if sides is None else {each.variables: each for each in sides}
    data, event = by_variables.get(frozenset({"data"})), by_variables.get(frozenset({"event"}))
    return None if data is None or event is None else (data, event)


def _is_offered(plan: TaskPlan) -> bool:
    return not plan.automatic and plan.task.timer is None


def _alone(tables: Tables, plans: Sequence[TaskPlan]) -> frozenset[int]:
    """Return the offered tasks whose start takes nothing that another task waits for or reads, and calls for nothing else."""
    return frozenset(
        number
        for number, (entry, plan) in enumerate(zip(tables.table, plans, strict=True))
        if _is_offered(plan) and plan.task.multiple is None and not plan.worklets and not entry.join_cancels
        if all(tables.consumers[condition] == (number,) for condition, _ in entry.inputs)
    )


def _is_bare(plan: TaskPlan) -> bool:
    """Whether a task is work of people of which nothing is said that matters when it is completed."""
    bound = plan.people is not None or plan.separate or plan.remembered
    changes = plan.ensures is not None or plan.output is not None or plan.compensation is not None
    return plan.kind is Kind.MANUAL and not bound and not changes


def _constraint(text: str | None, dialect: Dialect) -> Expression | None:
    return None if text is None else compile_expression(text, dialect=dialect)


def _compiled(
    mapping: Mapping[str, str] | None, variables: tuple[str, ...], dialect: Dialect
) -> Mapping[str, Expression] | None:
    if mapping is None:
        return None
    return {name: compile_expression(text, variables=variables, dialect=dialect) for name, text in mapping.items()}
