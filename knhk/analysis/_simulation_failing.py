"""What a simulation assumes of work that fails: how often, with which errors, how it is tried again, and who takes the error."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from knhk._lower import Kind, TaskPlan
from knhk.analysis._simulation_model import SimulationModel, TaskModel
from knhk.spec import ANY_ERROR, Retry


@attrs.frozen(kw_only=True, eq=False)
class Failing:
    """
    How the attempts of one task fail, as the event loops read it; times in seconds.

    Args:
        bounds: by way to fail, the upper bound of its probability.
        errors: by way to fail, the number of its error.
        attempts: by way to fail, how many attempts there are at the most.
        pause, coefficient, longest, jitter: of the waits between attempts, as `knhk.spec.Retry` has them.
        within: how long after the beginning of the first attempt the next one must begin.
        catches: by error, the position of the output that is taken for it, or -1; empty: none is for any.
    """

    bounds: tuple[float, ...] = ()
    errors: tuple[int, ...] = ()
    attempts: tuple[int, ...] = ()
    pause: float = 0.0
    coefficient: float = 1.0
    longest: float = 0.0
    jitter: float = 0.0
    within: float = math.inf
    catches: tuple[int, ...] = ()


def error_names(model: SimulationModel) -> tuple[str, ...]:
    """Return the names of all errors of a model, each once."""
    tasks = itertools.chain(model.root.tasks.values(), *(each.tasks.values() for each in model.subnets.values()))
    return tuple(dict.fromkeys(name for task in tasks for name, _ in task.fails))


def failing(plan: TaskPlan, said: TaskModel, names: Sequence[str]) -> Failing:
    """Return how a task fails, of all errors of the model."""
    retry = plan.task.retry or Retry()
    numbers: Mapping[str, int] = {name: number for number, name in enumerate(names)}
    return Failing(
        bounds=tuple(itertools.accumulate(probability for _, probability in said.fails)),
        errors=tuple(numbers[name] for name, _ in said.fails),
        attempts=tuple(1 if name in retry.non_retryable else retry.max_attempts for name, _ in said.fails),
        pause=retry.initial / 1000,
        coefficient=float(retry.coefficient),
        longest=retry.max / 1000,
        jitter=float(retry.jitter),
        within=math.inf if retry.deadline is None else retry.deadline / 1000,
        catches=tuple(_catches(plan, names)) if plan.errors else (),
    )


def _catches(plan: TaskPlan, names: Iterable[str]) -> Iterator[int]:
    for name in names:
        fitting = (each.position for each in plan.errors if ANY_ERROR in each.names or name in each.names)
        yield next(fitting, -1)


def failing_faults(plan: TaskPlan, said: TaskModel) -> Iterator[str]:
    """Say what is wrong with what a model says of a task's failures."""
    if not said.fails:
        return
    if plan.kind is Kind.ROUTING:
        yield "it does no work that could fail"
    elif plan.kind is Kind.SUBNET:
        yield "it is composite: the tasks of its subnet fail"
    if plan.exlets:
        yield "is not simulated where a worklet is called for what failed (exlet)"
    total = math.fsum(probability for _, probability in said.fails)
    if total > 1 + 1e-9:
        yield f"the probabilities sum to {total:g}, more than 1"


def may_fail(plan: TaskPlan) -> bool:
    """Whether the specification says what follows when a task fails, so that a model ought to say how often that is."""
    return plan.kind not in (Kind.ROUTING, Kind.SUBNET) and bool(plan.task.retry or plan.errors)
