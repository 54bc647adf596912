"""A specification and a simulation model as numbers: the only form that the event loops read.

Tasks are numbered through all nets: task ``t`` of net ``n`` is number ``first[n] + t``.
Everything that does not fit is a problem with its place, and everything that was not said is noted with its default.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from knhk._compiled import compile_specification
from knhk._kernel import Net
from knhk._lower import Kind, NetPlan, TaskPlan
from knhk._tables import XOR
from knhk.analysis._simulation_failing import Failing, error_names, failing, failing_faults, may_fail
from knhk.analysis._simulation_model import (
    AT_ONCE,
    MAX_INSTANCES,
    Arrival,
    Distribution,
    NetModel,
    SimulationModel,
    TaskModel,
)
from knhk.errors import ModelError
from knhk.expr import Expression
from knhk.spec import Creation, Flow, Moment, Specification
from knhk.spec.places import Report, inside, shown

STARTS_BY_ITSELF: Final = 0
OFFERED: Final = 1
TIMED: Final = 2


@attrs.frozen(kw_only=True, eq=False)
class TaskRun:
    """
    One task as the event loops read it.

    Args:
        starts: `STARTS_BY_ITSELF`, `OFFERED` (after a wait: an event, or somebody takes it up) or `TIMED`.
        fires: routing without duration and resource: starts and completes in one.
        queues_first: whether the unit of its pool is got before the start, so that others may still win the tokens.
        pool: the number of its resource, or -1.
        subnet: the number of its net, or -1.
        service, wait: distributions; `timer` in seconds.
        multiple, detached, continues, threshold: of a multiple-instance task; threshold 0 for none.
        counts: numbers of instances with the upper bounds of their probabilities.
        chooses: whether a completion draws; else all outputs get a token.
        one: whether exactly one output is drawn (XOR-split).
        branches: positions in the order in which they are looked at, the default last.
        chances: by branch: XOR: the upper bound of its share; OR: the probability once another was chosen.
        first_chances: OR: the probability while none was chosen before it.
        default: the position of the OR-split's default, or -1.
        cancels, join_cancels: the tasks whose work ends at completion, or at the start; `cancels_itself` of the former.
        failing: how its attempts fail.
    """

    starts: int
    fires: bool
    queues_first: bool
    pool: int
    subnet: int
    service: Distribution
    wait: Distribution
    timer: float
    multiple: bool
    detached: bool
    continues: bool
    threshold: int
    counts: tuple[tuple[int, float], ...]
    chooses: bool
    one: bool
    branches: tuple[int, ...]
    chances: tuple[float, ...]
    first_chances: tuple[float, ...]
    default: int
    every_output: tuple[int, ...]
    cancels: tuple[int, ...]
    cancels_itself: bool
    join_cancels: tuple[int, ...]
    failing: Failing


@attrs.frozen(kw_only=True, eq=False)
class NetRun:
    """One net as the event loops read it: its kernel, the number of its first task, how it ends, its timed tasks."""

    kernel: Net
    first: int
    size: int
    implicit: bool
    empty: bool
    has_or_joins: bool
    timed: tuple[int, ...]


@attrs.frozen(kw_only=True, eq=False)
class Plan:
    """What the event loops read; `names` and `pool_names` are for the report."""

    nets: tuple[NetRun, ...]
    tasks: tuple[TaskRun, ...]
    capacities: tuple[int, ...]
    arrival: Arrival
    max_time: float
    max_steps: int
    names: tuple[str, ...]
    pool_names: tuple[str, ...]
    defaults: tuple[str, ...]


def make_plan(specification: Specification, model: SimulationModel, *, kernel: type[Net]) -> Plan:
    """
    Bind a model to a specification.

    Raises:
        ModelError: the model does not fit, or the specification has what is not simulated; every problem with its place.
    """
    return _Binding(specification, model).plan(kernel)


class _Binding:
    """One specification and one model, while they are put together."""

    def __init__(self, specification: Specification, model: SimulationModel) -> None:
        self.specification = specification
        self.model = model
        self.report = Report()
        self.defaults: list[str] = []
        self.pools = {each: number for number, each in enumerate(model.resources)}
        self.used: set[str] = set()
        self.errors = error_names(model)

    def plan(self, kernel: type[Net]) -> Plan:
        compiled = compile_specification(self.specification, kernel=kernel)
        plans = compiled.program.nets
        for each in self.model.subnets:
            if each not in self.specification.subnets:
                hint = self.report.did_you_mean(each, self.specification.subnets)
                self.report.add(inside("subnets", each), f"the specification has no such subnet{hint}")
        firsts = list(itertools.accumulate((len(each.plans) for each in plans), initial=0))
        tasks: list[TaskRun] = []
        names: list[str] = []
        for net in plans:
            names += [f"{net.name}/{task}" if net.name else task for task in net.tables.tasks]
            tasks += self._net(net)
        for each in self.pools:
            if each not in self.used:
                self.report.add(inside("resources", each), "no task needs it")
        if self.model.arrival is None:
            self.defaults.append("arrival: one by one, each case when the one before has ended")
        if self.report.count:
            raise ModelError(self.report.problems())
        return Plan(
            nets=tuple(
                NetRun(
                    kernel=kernel_net,
                    first=first,
                    size=len(net.plans),
                    implicit=net.tables.implicit,
                    empty=net.empty,
                    has_or_joins=bool(net.tables.or_joins),
                    timed=net.timed,
                )
                for net, kernel_net, first in zip(plans, compiled.kernels, firsts, strict=False)
            ),
            tasks=tuple(tasks),
            capacities=tuple(self.model.resources.values()),
            arrival=self.model.arrival or Arrival(),
            max_time=self.model.max_time,
            max_steps=self.model.max_steps,
            names=tuple(names),
            pool_names=tuple(self.pools),
            defaults=tuple(self.defaults),
        )

    def _net(self, net: NetPlan) -> Iterator[TaskRun]:
        place = inside("subnets", net.name) if net.name else ""
        model = self.model.subnets.get(net.name, NetModel()) if net.name else self.model.root
        for each in model.tasks:
            if each not in net.index:
                hint = self.report.did_you_mean(each, net.index)
                self.report.add(inside(inside(place, "tasks"), each), f"the net has no such task{hint}")
        source = self.specification.nets()[net.name]
        flows: dict[str, list[Flow]] = {each: [] for each in net.index}
        for flow in source.flows:
            if flow.source in flows:
                flows[flow.source].append(flow)
        known = {
            flow.label for each, plan in zip(net.index, net.plans, strict=True) if plan.branches for flow in flows[each]
        }
        for label in model.flows:
            if label not in known:
                hint = self.report.did_you_mean(label, known)
                message = f"the net has no such flow out of an XOR- or OR-split{hint}"
                self.report.add(inside(inside(place, "flows"), label), message)
        for number, plan in enumerate(net.plans):
            yield self._task(net, number, plan, model, flows[plan.task.id], place)

    def _task(
        self, net: NetPlan, number: int, plan: TaskPlan, model: NetModel, flows: Sequence[Flow], above: str
    ) -> TaskRun:
        said = model.tasks.get(plan.task.id, TaskModel())
        place = inside(inside(above, "tasks"), plan.task.id)
        table = net.tables.table[number]
        multiple = plan.task.multiple
        starts = TIMED if plan.task.timer is not None else STARTS_BY_ITSELF
        if starts != TIMED and (plan.task.trigger is not None or not plan.automatic):
            starts = OFFERED
        self._refuse(plan, said, starts, place)
        pool = self._pool(plan, said, place)
        chances, first_chances = self._branches(plan, model, flows, one=table.split == XOR, net=above, place=place)
        if said.wait is None and starts == OFFERED:
            self.defaults.append(f"{place}.wait: 0, its event comes or somebody takes it up at once")
        timer = plan.task.timer or 0
        if isinstance(timer, Moment):
            self.defaults.append(f"{place}.timer: 0, its time is one of the calendar")
            timer = 0
        if said.duration is None and plan.kind not in (Kind.ROUTING, Kind.SUBNET):
            self.defaults.append(f"{place}.duration: 0")
        if not said.fails and may_fail(plan):
            self.defaults.append(
                f"{place}.fails: never, so its retries and error flows are not used for its own failures"
            )
        return TaskRun(
            starts=starts,
            fires=plan.kind is Kind.ROUTING and said.duration is None and pool < 0,
            queues_first=starts == OFFERED and multiple is None,
            pool=pool,
            subnet=plan.subnet,
            service=said.duration or AT_ONCE,
            wait=said.wait or AT_ONCE,
            timer=timer / 1000,
            multiple=multiple is not None,
            detached=table.detached,
            continues=table.continues,
            threshold=0 if multiple is None or multiple.threshold is None else multiple.threshold,
            counts=self._counts(plan, said, place),
            chooses=bool(plan.branches),
            one=table.split == XOR,
            branches=tuple(each.position for each in plan.branches),
            chances=chances,
            first_chances=first_chances,
            default=next((each.position for each in plan.branches if each.predicate is None), -1),
            every_output=plan.every_output,
            cancels=table.cancels_tasks,
            cancels_itself=number in table.cancels_tasks,
            join_cancels=table.join_cancels_tasks,
            failing=failing(plan, said, self.errors),
        )

    def _refuse(self, plan: TaskPlan, said: TaskModel, starts: int, place: str) -> None:
        """Note what the simulation does not do, and what the model says of a task that it cannot have."""
        multiple = plan.task.multiple
        for fault in failing_faults(plan, said):
            self.report.add(f"{place}.fails", fault)
        if multiple is not None and multiple.until is not None:
            self.report.add(f"{place}.multiple.until", "is not simulated: it looks at data, and a simulation has none")
        if multiple is not None and multiple.creation is Creation.DYNAMIC:
            self.report.add(
                f"{place}.multiple.creation", "is not simulated: instances come from outside; only static is"
            )
        if plan.kind is Kind.SUBNET and said.duration is not None:
            self.report.add(f"{place}.duration", "it is composite: its duration is that of its subnet")
        if plan.kind is Kind.SUBNET and said.resource is not None:
            self.report.add(f"{place}.resource", "it is composite: the tasks of its subnet need resources")
        if said.wait is not None and starts == TIMED:
            self.report.add(f"{place}.wait", "it has a timer, which says how long it waits")
        elif said.wait is not None and starts == STARTS_BY_ITSELF:
            self.report.add(f"{place}.wait", "it starts by itself: only triggered, manual and external tasks wait")

    def _pool(self, plan: TaskPlan, said: TaskModel, place: str) -> int:
        """The resource that the model names, else the first of the task's roles that is one, else none."""
        if said.resource is not None:
            self.used.add(said.resource)
            if said.resource not in self.pools:
                hint = self.report.did_you_mean(said.resource, self.pools)
                self.report.add(f"{place}.resource", f"the model has no resource {shown(said.resource)}{hint}")
            return self.pools.get(said.resource, -1)
        roles = () if plan.task.manual is None else plan.task.manual.roles
        role = next((each for each in roles if each in self.pools), None)
        if role is not None and plan.kind is not Kind.SUBNET:
            self.used.add(role)
            self.defaults.append(f"{place}.resource: {role}, by its role")
            return self.pools[role]
        if plan.kind not in (Kind.ROUTING, Kind.SUBNET):
            self.defaults.append(f"{place}.resource: none, its capacity is infinite")
        return -1

    def _counts(self, plan: TaskPlan, said: TaskModel, place: str) -> tuple[tuple[int, float], ...]:
        multiple = plan.task.multiple
        if multiple is None:
            if said.instances:
                self.report.add(f"{place}.instances", "it is no multiple-instance task")
            return ()
        low = multiple.minimum or 0
        high = MAX_INSTANCES if multiple.maximum is None else multiple.maximum
        if plan.count is not None and not isinstance(plan.count, Expression):
            if said.instances:
                self.report.add(f"{place}.instances", f"the specification says it: {plan.count}")
            pairs: tuple[tuple[int, float], ...] = ((plan.count, 1.0),)
        elif said.instances:
            pairs = said.instances
        else:
            pairs = ((max(1, low), 1.0),)
            self.defaults.append(f"{place}.instances: {max(1, low)}")
        for count, _ in pairs:
            if not low <= count <= high:
                self.report.add(f"{place}.instances", f"the task may have {low} to {high} instances, not {count}")
        bounds = list(itertools.accumulate(probability for _, probability in pairs))
        bounds[-1] = 1.0
        return tuple((count, bound) for (count, _), bound in zip(pairs, bounds, strict=True))

    def _branches(
        self, plan: TaskPlan, model: NetModel, flows: Sequence[Flow], *, one: bool, net: str, place: str
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if not plan.branches:
            return (), ()
        where = inside(net, "flows")
        given = [model.flows.get(flows[each.position].label) for each in plan.branches]
        has_default = plan.branches[-1].predicate is None
        if one:
            return self._shares(given, place, where, has_default=has_default), ()
        if has_default and given[-1] is not None:
            label = flows[plan.branches[-1].position].label
            self.report.add(inside(where, label), "the default of an OR-split is taken when no other flow is")
        if None in (given[:-1] if has_default else given):
            self.defaults.append(f"{place}.split: 1/2 for each flow without a probability, the default aside")
        chances = [0.5 if each is None else each for each in given]
        if has_default:
            chances[-1] = 0.0
            return tuple(chances), tuple(chances)
        # Without a default at least one flow must be taken: the chances while none is, given that one will be.
        none_after = list(itertools.accumulate((1 - each for each in reversed(chances)), lambda a, b: a * b))[::-1]
        if none_after[0] == 1:
            self.report.add(where, f"all flows of {shown(plan.task.id)} have probability 0, and it has no default")
            return tuple(chances), tuple(chances)
        last = max(position for position, each in enumerate(chances) if each)
        first = [
            1.0 if position == last else each / (1 - rest) if position < last else 0.0
            for position, (each, rest) in enumerate(zip(chances, none_after, strict=True))
        ]
        return tuple(chances), tuple(first)

    def _shares(self, given: Sequence[float | None], place: str, where: str, *, has_default: bool) -> tuple[float, ...]:
        """The upper bounds of the shares of an XOR-split's flows; the default takes what the others leave."""
        total = math.fsum(each for each in given if each is not None)
        open_ = [position for position, each in enumerate(given) if each is None]
        if len(open_) == len(given):
            self.defaults.append(f"{place}.split: equal probabilities")
        elif open_:
            if total > 1 + 1e-9:
                self.report.add(where, f"the probabilities of the flows out of {place} sum to {total:g}, more than 1")
            if has_default and given[-1] is None:
                open_ = [len(given) - 1]
            self.defaults.append(f"{place}.split: what is left of 1 for the {'default' if has_default else 'others'}")
        elif not total:
            self.report.add(where, f"all flows out of {place} have probability 0")
            return ()
        rest = max(0.0, 1 - total) / len(open_) if open_ else 0.0
        shares = [0.0 if each is None else each for each in given]
        for position in open_:
            shares[position] = rest
        whole = math.fsum(shares)
        bounds = [each / whole for each in itertools.accumulate(shares)] if whole else list(shares)
        last = max((position for position, each in enumerate(shares) if each), default=0)
        return tuple(bound if position < last else 1.0 for position, bound in enumerate(bounds))
