"""Simulation: how fast cases are played, and how near the figures come to theory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from benchmarks.engine import line
from benchmarks.measure import Figure
from knhk.analysis import SimulationModel, simulate


def _ten_tasks(*, resources: bool) -> SimulationModel:
    """Ten tasks with exponential service, with or without a pool of two for each."""
    tasks: dict[str, Any] = {f"t{number}": {"duration": {"exponential": 1}} for number in range(10)}
    if not resources:
        return SimulationModel.from_dict({"tasks": tasks, "arrival": {"rate": 1}})
    pools = {f"r{number}": 2 for number in range(10)}
    for number, each in enumerate(tasks.values()):
        each["resource"] = f"r{number}"
    return SimulationModel.from_dict({"tasks": tasks, "resources": pools, "arrival": {"rate": 1}})


def simulation() -> Iterator[Figure]:
    """1,000,000 cases of ten tasks in a row, report included, and M/M/1 beside its formula."""
    specification = line("ten", 10, handler="h")
    for name, resources in (("no limits", False), ("ten pools", True)):
        begun = time.perf_counter()
        simulate(specification, _ten_tasks(resources=resources), cases=1_000_000)
        spent = time.perf_counter() - begun
        yield Figure(f"1,000,000 cases of 10 tasks, {name}", spent, "s", "", "< 10", spent < 10)
    queue = line("queue", 1, handler="h")
    for rho in (0.5, 0.8):
        model = {
            "tasks": {"t0": {"duration": {"exponential": rho}, "resource": "desk"}},
            "resources": {"desk": 1},
            "arrival": {"rate": 1},
        }
        report = simulate(queue, SimulationModel.from_dict(model), cases=1_000_000, seed=7, warm_up=2_000)
        if report.throughput is None:
            raise RuntimeError("no case of the queue completed")
        error = 100 * abs(report.throughput.mean.mean * (1 - rho) / rho - 1)
        yield Figure(f"M/M/1 at {rho}: mean time in the system, off theory", error, "%", "", "< 1", error < 1)


BENCHMARKS = {"simulation": simulation}
