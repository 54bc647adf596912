"""Verification: states a second, and how long the canonical nets and the example take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure
from knhk import Specification, patterns
from knhk._kernel import Net
from knhk._lower import lower
from knhk.analysis._relation import relation_of
from knhk.analysis._search import Meter, compiled_explorers, search
from knhk.analysis.soundness import judge_net, read_off
from knhk.spec.verdict import Budget

ORDER = Path(__file__).resolve().parent.parent / "examples" / "order_to_cash" / "order.json"


def fan(width: int) -> Specification:
    """An AND-split and an AND-join with that many tasks between them: 2 ** width states, and two more."""
    branches = [f"b{number}" for number in range(width)]
    flows = [{"from": "start", "to": "split"}, {"from": "join", "to": "end"}]
    flows += [{"from": "split", "to": each} for each in branches]
    flows += [{"from": each, "to": "join"} for each in branches]
    tasks: list[dict[str, Any]] = [{"id": "split", "split": "and"}, {"id": "join", "join": "and"}]
    return Specification.from_dict(
        {"id": f"fan{width}", "tasks": [*tasks, *({"id": b} for b in branches)], "flows": flows}
    )


def rate(width: int, repeats: int, *, compiled: Any) -> tuple[float, float]:
    """
    Look at all states of a fan and decide every property; structure alone, which tells of it at once, is left out.

    Returns:
        The best and the median states a second.
    """
    plan = lower(fan(width)).nets[0]
    relation = relation_of(plan)
    rates = []
    for _ in range(repeats):
        begun = time.perf_counter()
        explored = search(relation, Net(plan.tables), Meter(Budget(states=1 << 22)), compiled=compiled)
        verdict = read_off("", relation, explored)
        rates.append(verdict.states / (time.perf_counter() - begun))
        if (verdict.verdict, verdict.states) != ("sound", 2**width + 2):
            message = f"a fan of {width} is {verdict.verdict} with {verdict.states} states"
            raise AssertionError(message)
    return max(rates), statistics.median(rates)


def soundness() -> Iterator[Figure]:
    """States a second on 2^20 states, compiled and not, and the 43 canonical nets with order to cash."""
    compiled = compiled_explorers()
    if compiled is not None:
        best, middle = rate(20, 5, compiled=compiled)
        spread = f"median {middle / 1e6:.2f}"
        yield Figure("soundness, 2^20 states", best / 1e6, "M states/s", spread, ">= 3", best >= 3e6)
        best, middle = rate(16, 20, compiled=compiled)
        yield Figure("soundness, 2^16 states", best / 1e6, "M states/s", f"median {middle / 1e6:.2f}")
    best, middle = rate(10, 3, compiled=None)
    yield Figure("soundness, 2^10 states, reference explorer", best / 1e3, "k states/s", f"median {middle / 1e3:.1f}")
    specifications = [patterns[number].specification for number in range(1, 44)] + [Specification.load(ORDER)]
    costs = []
    for _ in range(5):
        begun = time.perf_counter()
        for specification in specifications:
            meter = Meter(Budget())
            for plan in lower(specification).nets:
                judge_net(plan, None, meter, compiled=compiled)
        costs.append(time.perf_counter() - begun)
    spread = f"median {statistics.median(costs) * 1e3:.0f}"
    yield Figure(
        "soundness, 43 canonical nets and order to cash", min(costs) * 1e3, "ms", spread, "< 1,000", min(costs) < 1
    )


BENCHMARKS = {"soundness": soundness}
