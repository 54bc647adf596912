"""The figures that are asked for when somebody looks: queues, breakers, attempts, what was counted, and custom metrics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from knhk.engine import Engine
from knhk.server.audit import AuditLog
from knhk.server.background import Background
from knhk.server.census import Census
from knhk.server.figures import STATES, bounded, counted, measured
from knhk.server.tenants import Tenants
from knhk.work.breaker import BreakerState
from knhk.work.metrics import Distribution, MetricReading

MOST_CUSTOM: Final = 200
"""Custom metrics that are shown, over all workflows."""

_OPEN: Final = ("offered", "allocated", "started", "suspended", "failed")
_KINDS: Final = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}


class Gauges:
    """
    Asks the parts of the service.

    Args:
        tenants: whose engines are asked.
        background: does their automatic work.
        audit: the record; None where there is none.
        census: how many there are.
    """

    def __init__(self, tenants: Tenants, background: Background, audit: AuditLog | None, census: Census) -> None:
        self._tenants = tenants
        self._background = background
        self._audit = audit
        self._census = census

    def __call__(self) -> Iterator[Metric]:
        """Return all of them."""
        engines = self._tenants.engines()
        yield from self._counts()
        yield from self._queues()
        yield from _work(engines)
        yield from _custom([each for engine in engines for each in engine.metrics.read()])

    def _counts(self) -> Iterator[Metric]:
        last = self._census.last
        if last is None:
            return
        cases = {**dict.fromkeys(STATES, 0), **last.cases}
        items = {**dict.fromkeys(_OPEN, 0), **last.items}
        yield measured("knhk_cases", "Cases by state.", ("state",), _by(cases))
        yield measured("knhk_work_items", "Open work items by state.", ("state",), _by(items))
        for name, text, value in (
            ("knhk_external_work", "Work that is offered to external workers.", last.external),
            ("knhk_dead_letters", "Work that has failed for good.", last.dead_letters),
            ("knhk_dead_messages", "Messages of webhooks that did not arrive.", last.dead_messages),
            ("knhk_count_age_seconds", "How old the counts of cases, work and messages are.", self._census.age or 0.0),
        ):
            yield measured(name, text, (), {(): value})

    def _queues(self) -> Iterator[Metric]:
        queues = {"agenda": self._background.waiting}
        if self._audit is not None:
            queues["audit"] = self._audit.waiting
        if self._census.last is not None:
            queues["outbox"] = self._census.last.outbox
        yield measured("knhk_queue", "What waits: cases for a worker, entries and messages.", ("queue",), _by(queues))
        yield measured("knhk_handlers_running", "Handlers that run now.", (), {(): self._background.busy})


def _by(values: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    return {(name,): value for name, value in values.items()}


def _work(engines: Iterable[Engine]) -> Iterator[Metric]:
    """What engines say of their work; those of several tenants are added up."""
    attempts: Counter[tuple[str, ...]] = Counter()
    undecided = errors = 0
    worst: dict[str, int] = {}
    order = [BreakerState.CLOSED.value, BreakerState.HALF_OPEN.value, BreakerState.OPEN.value]
    for engine in engines:
        attempts.update({(handler, outcome): n for (handler, outcome), n in engine.metrics.attempts.items()})
        undecided += engine.metrics.undecided
        errors += engine.metrics.errors
        for name, breaker in engine.breakers.items():
            worst[name] = max(worst.get(name, 0), order.index(breaker.state))
    yield counted("knhk_attempts", "Attempts of handlers by outcome.", ("handler", "outcome"), bounded(attempts))
    yield counted("knhk_or_join_budget_exceeded", "OR-joins whose search met its budget.", (), {(): undecided})
    yield counted("knhk_metric_errors", "Values of custom metrics that could not be.", (), {(): errors})
    states: dict[tuple[str, ...], float] = {
        (name, each): float(at == order.index(each)) for name, at in worst.items() for each in order
    }
    text = "Whether a breaker is in a state; of several tenants' breakers of one name the worst counts."
    yield measured("knhk_breaker", text, ("breaker", "state"), bounded(states))


def _custom(readings: Iterable[MetricReading]) -> Iterator[Metric]:
    """
    Return the metrics that specifications declare, as ``knhk_custom_`` and their name, with the workflow as a label.

    Those of several tenants are added up where they are alike.
    A metric that has the name of another and is not like it is left out, and so are those beyond `MOST_CUSTOM`.
    """
    families: dict[str, MetricReading] = {}
    left_out = shown = 0
    merged: dict[tuple[str, str], list[MetricReading]] = {}
    for each in readings:
        first = families.setdefault(each.name, each)
        key = (each.name, each.spec_id)
        if (first.kind, first.labels, first.bounds) != (each.kind, each.labels, each.bounds) or (
            key not in merged and shown >= MOST_CUSTOM
        ):
            left_out += 1
        else:
            shown += key not in merged
            merged.setdefault(key, []).append(each)
    names: dict[str, Any] = {}
    for (name, spec_id), alike in merged.items():
        first = families[name]
        family = names.get(name)
        if family is None:
            labels = ("workflow", *first.labels)
            family = names[name] = _KINDS[first.kind](f"knhk_custom_{name}", first.help or name, labels=labels)
        for labels_of, value in _together(alike).items():
            _add(family, (spec_id, *labels_of), value)
    yield from names.values()
    yield measured("knhk_custom_left_out", "Custom metrics that are not shown.", (), {(): left_out})


def _together(alike: Iterable[MetricReading]) -> dict[tuple[str, ...], float | Distribution]:
    found: dict[tuple[str, ...], float | Distribution] = {}
    for reading in alike:
        for labels, value in reading.series.items():
            before = found.get(labels)
            if isinstance(value, Distribution) and isinstance(before, Distribution):
                found[labels] = Distribution(
                    count=value.count + before.count,
                    total=value.total + before.total,
                    buckets={bound: number + before.buckets[bound] for bound, number in value.buckets.items()},
                )
            elif isinstance(before, float) and not isinstance(value, Distribution):
                found[labels] = before + value
            else:
                found[labels] = value
    return found


def _add(family: Any, labels: tuple[str, ...], value: float | Distribution) -> None:
    if isinstance(value, Distribution):
        buckets = [("+Inf" if math.isinf(bound) else repr(bound), n) for bound, n in value.buckets.items()]
        family.add_metric(labels, buckets, value.total)
    else:
        family.add_metric(labels, value)
