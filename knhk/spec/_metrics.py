"""The metrics of a specification, read; what is wrong with them beyond their form."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import pairwise
from math import prod
from typing import Any, Final

from knhk.spec._manual import make
from knhk.spec.measuring import Label, Metric, MetricKind
from knhk.spec.places import inside, listed, shown
from knhk.spec.values import BAD, MAX_NAME, Member, Members, Reading, choice, described, name, number, text, whole

MOST_METRICS: Final = 50
"""Metrics of a specification."""

MOST_LABELS: Final = 5
"""Labels of a metric."""

MOST_SERIES: Final = 1_000
"""Series of a metric: the product of what its labels may be."""

MOST_BUCKETS: Final = 50
"""Buckets of a histogram."""

RESERVED: Final = ("workflow", "le", "quantile", "instance", "job")
"""Names that no label may have: they are given by others."""

EVENTS: Final = (
    "case_created",
    "case_started",
    "case_suspended",
    "case_resumed",
    "case_completed",
    "case_cancelled",
    "case_failed",
    "case_deadlocked",
    "case_compensating",
    "data_changed",
)
"""The events that concern a case as a whole."""

TASK_EVENTS: Final = (
    "task_fired",
    "task_started",
    "task_completed",
    "task_forced",
    "task_cancelled",
    "task_withdrawn",
    "task_compensated",
    "instance_completed",
    "instance_added",
    "item_offered",
    "item_withdrawn",
    "item_claimed",
    "item_skipped",
    "item_escalated",
    "item_discarded",
    "item_replayed",
    "attempt_begun",
    "attempt_failed",
    "claim_expired",
    "error_caught",
    "deadline_passed",
    "trigger_held",
)
"""The events that concern a task, which a metric may name."""


_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_SUFFIXES: Final = ("_total", "_bucket", "_count", "_sum", "_created", "_info")
_DATA: Final = ("data",)


def _event(reading: Reading, value: object, place: str) -> Any:
    known = (*EVENTS, *TASK_EVENTS)
    if isinstance(value, str) and value in known:
        return value
    hint = reading.report.did_you_mean(value, known) if isinstance(value, str) else ""
    return reading.refuse(place, f"must be an event at which something can be counted, not {described(value)}{hint}")


def _buckets(reading: Reading, value: object, place: str) -> Any:
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= MOST_BUCKETS:
        return reading.refuse(place, f"must be a list of 1 to {MOST_BUCKETS} numbers, not {described(value)}")
    one = number(-1e15, 1e15)
    bounds = [one(reading, each, f"{place}[{index}]") for index, each in enumerate(value)]
    if any(each is BAD for each in bounds):
        return BAD
    if any(low >= high for low, high in pairwise(bounds)):
        return reading.refuse(place, "must ascend")
    return tuple(bounds)


def _labels(reading: Reading, value: object, place: str) -> Any:
    if not isinstance(value, Mapping) or not 1 <= len(value) <= MOST_LABELS:
        return reading.refuse(place, f"must be a map of 1 to {MOST_LABELS} labels by name, not {described(value)}")
    labels = {}
    for key, tree in value.items():
        here = inside(place, str(key))
        if _LABEL_NAME(reading, key, here) is BAD:
            continue
        written = {"value": tree} if isinstance(tree, str) else tree
        labels[key] = make(Label, reading, written, here, _LABEL, "value")
    return BAD if len(labels) < len(value) or BAD in labels.values() else labels


_LABEL_NAME: Final = name(pattern=_NAME)
_LABEL: Members = {"value": Member("value", text()), "maximum": Member("maximum", whole(1, MOST_SERIES))}
_METRIC: Members = {
    each: Member(each, read)
    for each, read in {
        "name": name(pattern=_NAME),
        "kind": choice(MetricKind),
        "on": _event,
        "help": text(longest=1_000),
        "task": name(),
        "value": text(),
        "buckets": _buckets,
        "labels": _labels,
    }.items()
}


def read_metrics(reading: Reading, value: object, place: str) -> Any:
    """Read the metrics of a specification."""
    if not isinstance(value, list | tuple):
        return reading.refuse(place, f"must be a list, not {described(value)}")
    if len(value) > MOST_METRICS:
        return reading.refuse(place, f"{len(value):,} entries; at most {MOST_METRICS} are allowed")
    read = []
    for index, tree in enumerate(value):
        named = tree.get("name") if isinstance(tree, Mapping) else None
        here = inside(place, named) if isinstance(named, str) and len(named) <= MAX_NAME else f"{place}[{index}]"
        found = make(Metric, reading, tree, here, _METRIC, "name", "kind", "on")
        if found is not BAD:
            read.append(found)
    return tuple(read)


def metric_problems(
    metrics: Collection[Metric], tasks: Collection[str], faults: Callable[[str, tuple[str, ...]], Collection[str]]
) -> Iterator[tuple[str, str]]:
    """
    What is wrong with metrics beyond their form: (place, message).

    Args:
        metrics: of a specification.
        tasks: the ids of its tasks, in whatever net.
        faults: tells what is wrong with an expression over these variables.
    """
    seen: set[str] = set()
    for metric in metrics:
        place = inside("metrics", metric.name)
        if metric.name in seen:
            yield place, "the name is used twice"
        seen.add(metric.name)
        for member, message in _problems(metric, tasks):
            yield inside(place, member), message
        labels = metric.labels or {}
        expressions = {"value": metric.value, **{f"labels.{key}.value": each.value for key, each in labels.items()}}
        for member, expression in expressions.items():
            for fault in () if expression is None else faults(expression, _DATA):
                yield f"{place}.{member}", f"{expression}: {fault}"


def _problems(metric: Metric, tasks: Collection[str]) -> Iterator[tuple[str, str]]:
    suffix = next((each for each in _SUFFIXES if metric.name.endswith(each)), None)
    if suffix is not None:
        yield "name", f"must not end in {suffix}, which is given by others"
    if metric.task is not None and metric.on in EVENTS:
        yield "task", f"means nothing for {metric.on}, which concerns the case as a whole"
    elif metric.task is not None and metric.task not in tasks:
        yield "task", f"there is no task {shown(metric.task)} in any net"
    if metric.value is None and metric.kind is not MetricKind.COUNTER:
        yield "value", f"a {metric.kind.value} needs one"
    if metric.buckets is not None and metric.kind is not MetricKind.HISTOGRAM:
        yield "buckets", f"means nothing for a {metric.kind.value}"
    labels = metric.labels or {}
    taken = sorted(labels.keys() & set(RESERVED))
    if taken:
        yield "labels", f"no label may be called {listed(taken)}"
    series = prod(each.maximum for each in labels.values())
    if series > MOST_SERIES:
        yield "labels", f"allow {series:,} series together; at most {MOST_SERIES:,} are allowed"
