"""Simulation: many cases of a specification in one world of shared resources, and what became of them."""

from __future__ import annotations

import time
from collections.abc import Callable

from knhk import _hot
from knhk.analysis._simulation_model import SimulationModel
from knhk.analysis._simulation_plan import make_plan
from knhk.analysis._simulation_report import SimulationReport, make_report
from knhk.analysis._simulation_run import run
from knhk.errors import SpecificationError
from knhk.spec import Specification


def simulate(
    specification: Specification,
    model: SimulationModel | None = None,
    *,
    cases: int = 10_000,
    seed: int = 1,
    warm_up: int = 0,
    progress: Callable[[int], None] | None = None,
) -> SimulationReport:
    """
    Simulate cases of a specification (Monte Carlo over a discrete-event world).

    All cases share one clock and the model's resources; the token game is the kernel's, splits are drawn instead of looked
    up in data.
    The same specification, model, number of cases, warm-up and seed give the same report, whatever kernel runs.

    Args:
        specification: a well-formed specification.
        model: durations, probabilities, arrivals and resources; what it does not say has a default, which the report names.
        cases: how many cases to start, at least 1.
        seed: any whole number; taken modulo 2**64.
        warm_up: how many of the first cases are played and not measured.
        progress: called now and then with the number of cases that have ended.

    Raises:
        ValueError: `cases` or `warm_up` is out of bounds.
        SpecificationError: the specification is not well-formed.
        ModelError: the model does not fit, or the specification has what is not simulated; with every problem's place.
    """
    if cases < 1:
        raise ValueError(f"a simulation needs at least 1 case, not {cases}")
    if not 0 <= warm_up < cases:
        raise ValueError(f"the warm-up must leave a case to measure: 0 to {cases - 1}, not {warm_up}")
    found = specification.problems()
    if found:
        raise SpecificationError(found)
    plan = make_plan(specification, SimulationModel() if model is None else model, kernel=_hot.Net)
    begun = time.perf_counter()
    raw = run(plan, cases=cases, warm_up=warm_up, seed=seed, progress=progress)
    spent = time.perf_counter() - begun
    return make_report(specification, plan, raw, cases=cases, warm_up=warm_up, seed=seed, spent=spent)
